"""A regular duty as a command."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from registry import broker
from registry.management.output import Command


class Duty(Command):
    """Does it once and prints what was done: exit 0 done, 1 failed, 2 wrong use."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")

    def perform(self) -> Mapping[str, Any]:
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        summary = self.perform()
        broker.flush()
        if options["json"]:
            self.print_json(summary)
            return
        for name, value in summary.items():
            self.stdout.write(f"{name.replace('_', ' ')}: {value}")
