"""A regular duty as a command."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from registry import broker


class Duty(BaseCommand):
    """Does it once and prints what was done: exit 0 done, 1 failed, 2 wrong use."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")

    def perform(self) -> Mapping[str, Any]:
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            summary = self.perform()
        except (DatabaseError, OSError) as error:
            raise CommandError(f"{self.help} failed: {error}") from error
        broker.flush()
        if options["json"]:
            self.stdout.write(json.dumps(summary))
            return
        for name, value in summary.items():
            self.stdout.write(f"{name.replace('_', ' ')}: {value}")
