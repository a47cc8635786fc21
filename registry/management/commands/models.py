from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry.addresses import find
from registry.management.output import Command as Base
from registry.serializers.models import ModelDetail, ModelSerializer
from registry.views.models import shown_models

SHOWN_METRICS = 4  # in one line


class Command(Base):
    help = "List the models, or the versions of one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", help="show the versions of this model")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        data: Any
        if options["name"] is None:
            data = ModelSerializer(shown_models(), many=True).data
            rows = [
                _row(one["latest"] or {"address": one["name"]}, one) for one in data
            ]
        else:
            model = shown_models().get(pk=find(options["name"]).pk)
            data = ModelDetail(model).data
            rows = [_row(version, data) for version in data["newest_versions"]]
        if options["json"]:
            self.print_json(data)
        else:
            columns = ("VERSION", "RECIPE", "METRICS", "ALIASES", "MADE", "TASK")
            self.print_table(columns, rows)


def _row(version: dict[str, Any], model: dict[str, Any]) -> list[Any]:
    figures = [
        f"{name}={value:.4g}"
        for name, value in _numbers(version.get("metrics", {}))[:SHOWN_METRICS]
    ]
    aliases = version.get("aliases") or []
    made = str(version.get("created_at", model["created_at"]))
    return [
        version["address"],
        version.get("recipe", "no version any more"),
        " ".join(figures),
        " ".join(f"@{name}" for name in aliases),
        made[:16].replace("T", " "),
        version.get("task"),
    ]


def _numbers(metrics: Any) -> list[tuple[str, float]]:
    """The figures of the first level that has some."""
    own = [
        (name, float(value))
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    inner = [value for value in metrics.values() if isinstance(value, dict)]
    return own or next((found for one in inner if (found := _numbers(one))), [])
