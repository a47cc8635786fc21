from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry.management.output import Command as Base
from registry.management.output import ago
from registry.models import Node
from registry.resources import GIB
from registry.views.nodes import shown


class Command(Base):
    help = "List the nodes with what is free and what runs on them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--lane")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = Node.objects.all()
        if options["lane"]:
            rows = rows.filter(lane=options["lane"])
        found = shown(rows, many=True)
        if options["json"]:
            self.print_json(found)
            return
        beats = dict(rows.values_list("name", "beat_at"))
        self.print_table(
            ("NODE", "STATE", "CPUS", "GPUS", "MEMORY", "RUNNING", "BEAT", "NOTE"),
            [
                (
                    node["name"],
                    node["state"],
                    of(node, "cpus"),
                    of(node, "gpus"),
                    of(node, "memory", GIB),
                    " ".join(node["running"]),
                    ago(beats[node["name"]]),
                    " ".join(notes(node)),
                )
                for node in found
            ],
        )


def of(node: dict[str, Any], name: str, unit: int = 1) -> str:
    """What is free of what there is."""
    free, whole = node["free"][name] / unit, node["capacity"][name] / unit
    return f"{free:.0f} of {whole:.0f}" if unit == 1 else f"{free:.1f} of {whole:.1f}"


def notes(node: dict[str, Any]) -> list[str]:
    """The sentences that tell why less is placed there than would fit."""
    busy = [gpu["busy"] for gpu in node["gpus"] if gpu.get("busy")]
    return [text for text in (node["drain_note"], node["short"], *busy) if text]
