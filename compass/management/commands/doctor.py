"""Say what is well and what is not."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from compass.doctor import examine
from registry.management.output import Command as Base

MARKS = {True: "ok", False: "BAD", None: "-"}


class Command(Base):
    help = "Check this installation; exit code 1 if something is wrong."
    requires_system_checks = []
    needs_tables = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="For programs.")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = examine()
        if options["json"]:
            self.print_json([one.as_dict() for one in findings])
        else:
            for one in findings:
                hint = f"  ({one.hint})" if one.hint and one.ok is not True else ""
                self.stdout.write(f"{MARKS[one.ok]:<4}{one.name:<20}{one.detail}{hint}")
        if any(one.ok is False for one in findings):
            sys.exit(1)
