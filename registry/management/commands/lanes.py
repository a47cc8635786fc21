from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry import broker, lanes, scheduler
from registry.management.output import Command as Base
from registry.management.output import WrongUse
from registry.serializers.lanes import LaneSerializer

LONGEST = 200  # characters of a note


class Command(Base):
    help = "List the lanes, or pause or resume one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("verb", nargs="?", choices=["pause", "resume"])
        parser.add_argument("lane", nargs="?", help=", ".join(lanes.NAMES))
        parser.add_argument("--note", default="", help="why it is paused")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["verb"]:
            self._change(options["verb"], options["lane"], options["note"])
        data = LaneSerializer(
            [lanes.shown(name) for name in lanes.NAMES], many=True
        ).data
        if options["json"]:
            self.print_json(data)
            return
        columns = ("LANE", "STATE", "WAITING", "HELD", "RUNNING", "NODES", "NOTE")
        self.print_table(
            columns,
            [
                (
                    one["name"],
                    "paused" if one["paused_at"] else "open",
                    one["waiting"],
                    one["held"],
                    one["running"],
                    " ".join(one["nodes"]),
                    one["note"],
                )
                for one in data
            ],
        )

    def _change(self, verb: str, lane: str | None, note: str) -> None:
        if lane not in lanes.NAMES:
            raise WrongUse(f"Name a lane: {', '.join(lanes.NAMES)}.")
        if len(note) > LONGEST:
            raise WrongUse(f"A note has at most {LONGEST} characters.")
        if verb == "pause":
            lanes.pause(lane, note)
        else:
            lanes.resume(lane)
        scheduler.dispatch()
        broker.flush()
