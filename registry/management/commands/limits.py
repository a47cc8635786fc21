from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User

from registry import broker, limits, scheduler
from registry.management.output import Command as Base
from registry.management.output import WrongUse
from registry.models import UserLimit
from registry.serializers.limits import LimitRequest, LimitSerializer


class Command(Base):
    help = "List the limits of users, set or remove one, or show what a user holds."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("verb", nargs="?", choices=["set", "remove", "show"])
        parser.add_argument("user", nargs="?", help="a user's name, or default")
        for what in limits.WHAT:
            parser.add_argument(
                f"--{what}",
                metavar="N",
                help=f"{what} held at a time; default no limit",
            )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        verb, name = options["verb"], options["user"]
        if verb and not name:
            raise WrongUse("Name a user, or default.")
        if verb == "show":
            self._show(name, as_json=options["json"])
            return
        if verb == "set":
            limits.put(limits.user_named(name), _amounts(options))
        elif verb == "remove":
            limits.remove(limits.user_named(name))
        if verb:
            scheduler.dispatch()
            broker.flush()
        rows = UserLimit.objects.select_related("user")
        data = LimitSerializer(rows, many=True).data
        if options["json"]:
            self.print_json(data)
        else:
            self.print_table(
                ("USER", *map(str.upper, limits.WHAT)),
                [(one["user"], *(_shown(one[w]) for w in limits.WHAT)) for one in data],
            )

    def _show(self, name: str, *, as_json: bool) -> None:
        user = User.objects.filter(username=name).first()
        if user is None:
            raise WrongUse(f"There is no user {name!r}.")
        told = limits.told(user)
        if as_json:
            self.print_json(told)
            return
        columns = ("WHAT", "LIMIT", "HELD", "LEFT")
        self.print_table(
            columns,
            [
                (
                    what,
                    _shown(told["limit"][what]),
                    told["in_use"][what],
                    _shown(told["you_may_use"][what]),
                )
                for what in limits.WHAT
            ],
        )
        self.stdout.write(f"Use lately: {told['use']:.0f} CPU-seconds.")


def _amounts(options: dict[str, Any]) -> dict[str, int | None]:
    given = {}
    for what in limits.WHAT:
        text = options[what]
        if text is not None and text != "none":
            given[what] = int(text) if text.lstrip("-").isdecimal() else text
    asked = LimitRequest(data=given)
    if not asked.is_valid():
        raise WrongUse("; ".join(f"--{k}: {v[0]}" for k, v in asked.errors.items()))
    found: dict[str, int | None] = asked.validated_data
    return found


def _shown(amount: int | None) -> str:
    return "-" if amount is None else str(amount)
