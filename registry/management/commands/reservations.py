from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry import broker, clock, scheduler
from registry.management.output import Command as Base
from registry.management.output import Failed
from registry.models import Reservation
from registry.serializers.reservations import shown


class Command(Base):
    help = "List the reservations that are not over, or remove one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--all", action="store_true", help="past ones too")
        parser.add_argument("--remove", metavar="NAME")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        moment = clock.now()
        rows = Reservation.objects.select_related("node").prefetch_related("users")
        if options["remove"] is not None:
            if not rows.filter(name=options["remove"]).delete()[0]:
                raise Failed(f"There is no reservation {options['remove']!r}.")
            scheduler.dispatch()
            broker.flush()
        if not options["all"]:
            rows = rows.filter(ends_at__gt=moment)
        data = shown(rows, moment, many=True)
        if options["json"]:
            self.print_json(data)
            return
        self.print_table(
            (
                "NAME",
                "STATE",
                "WHERE",
                "CPUS",
                "GPUS",
                "MEMORY",
                "FROM",
                "UNTIL",
                "USERS",
            ),
            [
                (
                    one["name"],
                    one["state"],
                    one["node"] or one["lane"],
                    *one["resources"].values(),
                    one["starts_at"][:16].replace("T", " "),
                    one["ends_at"][:16].replace("T", " "),
                    " ".join(one["users"]),
                )
                for one in data
            ],
        )
