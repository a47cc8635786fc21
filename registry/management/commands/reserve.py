from __future__ import annotations

import datetime
import re
from argparse import ArgumentParser
from typing import Any

from registry import broker, clock, reservations, scheduler
from registry.lanes import NAMES
from registry.management.output import Command as Base
from registry.management.output import WrongUse
from registry.serializers.reservations import ReservationRequest, shown

SPAN = re.compile(r"([0-9]{1,6})(m|h|d)\Z")
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Command(Base):
    help = "Keep a node, or resources of a lane, for some users in a time window."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--node", help="the whole node, unless amounts are given")
        parser.add_argument("--lane", choices=NAMES)
        parser.add_argument("--cpus", type=int)
        parser.add_argument("--gpus", type=int)
        parser.add_argument("--memory", type=int, help="bytes")
        parser.add_argument("--from", help="a time like 2026-03-01T08:00Z; default now")
        window = parser.add_mutually_exclusive_group(required=True)
        window.add_argument("--until", help="a time like 2026-03-01T18:00Z")
        window.add_argument("--for", help="a span like 90m, 8h or 2d")
        parser.add_argument("--users", default="", help="names, with commas between")
        parser.add_argument("--note", default="")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        asked = ReservationRequest(data=_request(options))
        if not asked.is_valid():
            raise WrongUse(
                "; ".join(f"{k}: {_first(v)}" for k, v in asked.errors.items())
            )
        fields = asked.validated_data
        fields.setdefault("starts_at", clock.now())
        if options["for"]:
            fields["ends_at"] = _after(fields["starts_at"], _span(options["for"]))
        row = reservations.save(fields)
        scheduler.dispatch()
        broker.flush()
        if options["json"]:
            self.print_json(shown(row, clock.now()))
        else:
            until = f"{row.ends_at:%Y-%m-%d %H:%M}"
            self.stdout.write(f"{row.name} is kept until {until} UTC.")


def _request(options: dict[str, Any]) -> dict[str, Any]:
    amounts = {
        name: options[name]
        for name in reservations.AMOUNTS
        if options[name] is not None
    }
    users = [name.strip() for name in options["users"].split(",") if name.strip()]
    # With --for the end is counted from the start, once that is read.
    ends = options["until"] or "9999-01-01T00:00:00Z"
    request = {"name": options["name"], "resources": amounts, "users": users}
    request |= {"note": options["note"], "ends_at": ends}
    for name, value in (
        ("node", options["node"]), ("lane", options["lane"]),
        ("starts_at", options["from"]),
    ):  # fmt: skip
        if value is not None:
            request[name] = value
    return request


def _span(text: str) -> datetime.timedelta:
    match = SPAN.match(text)
    if match is None or int(match[1]) == 0:
        raise WrongUse(f"{text[:60]!r} is not a span; write 90m, 8h or 2d.")
    return datetime.timedelta(**{UNITS[match[2]]: int(match[1])})


def _after(start: datetime.datetime, span: datetime.timedelta) -> datetime.datetime:
    try:
        return start + span
    except OverflowError:
        raise WrongUse("That is beyond the calendar.") from None


def _first(errors: Any) -> str:
    if isinstance(errors, dict):
        return "; ".join(f"{name}: {_first(inner)}" for name, inner in errors.items())
    return str(errors[0])
