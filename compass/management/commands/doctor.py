"""Say what is well and what is not."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from compass.doctor import examine

MARKS = {True: "ok", False: "BAD", None: "-"}


class Command(BaseCommand):
    help = "Check this installation; exit code 1 if something is wrong."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="For programs.")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = examine()
        if options["json"]:
            self.stdout.write(json.dumps([one.as_dict() for one in findings], indent=2))
        else:
            for one in findings:
                hint = f"  ({one.hint})" if one.hint and one.ok is not True else ""
                self.stdout.write(f"{MARKS[one.ok]:<4}{one.name:<20}{one.detail}{hint}")
        if any(one.ok is False for one in findings):
            sys.exit(1)
