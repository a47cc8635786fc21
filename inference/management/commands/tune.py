from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from inference import tuning
from registry.addresses import resolve
from registry.management.output import Command as Base


class Command(Base):
    help = (
        "Measure on which engine a model version runs best here, and keep the verdict."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", help="name, name:3 or name@alias")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        version = resolve(options["model"])
        verdict = tuning.tune(version)
        if options["json"]:
            self.print_json(verdict)
            return
        rows = [
            [
                one["name"],
                one.get("note") or ("yes" if one["is_correct"] else "no"),
                _short(one["largest_error"]),
                *(_micro(one, size) for size in tuning.SIZES),
            ]
            for one in verdict["candidates"]
        ]
        sizes = [f"{size}" for size in tuning.SIZES]
        if rows:
            self.print_table(("ENGINE", "CORRECT", "ERROR", *sizes), rows)
            self.stdout.write("Microseconds a row, by rows of one pass.")
        note = f" {verdict['note']}" if verdict["note"] else ""
        self.stdout.write(
            f"{version}: {verdict['name']}, batch {verdict['batch'] or 'as it comes'}.{note}"
        )


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"


def _micro(candidate: dict[str, Any], size: int) -> str:
    seconds = candidate.get("seconds_a_row", {}).get(str(size))
    return "" if seconds is None else f"{seconds * 1e6:.1f}"
