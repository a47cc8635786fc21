from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry.management.output import Command as Base
from registry.management.output import ago
from registry.models import Task
from registry.serializers.tasks import TaskSerializer
from registry.states import State


class Command(Base):
    help = "List tasks, the newest first, with why they wait or failed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--state", choices=State.values)
        parser.add_argument("--kind")
        parser.add_argument("--owner", help="user name")
        parser.add_argument("--limit", type=int, default=20)
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = Task.objects.select_related("node", "owner")
        for name, field in (
            ("state", "state"), ("kind", "kind"), ("owner", "owner__username"),
        ):  # fmt: skip
            if options[name]:
                rows = rows.filter(**{field: options[name]})
        found = rows[: max(1, options["limit"])]
        if options["json"]:
            self.print_json(TaskSerializer(found, many=True).data)
            return
        self.print_table(
            ("ID", "KIND", "NAME", "STATE", "PROGRESS", "NODE", "AGE", "WHY"),
            [
                (
                    task.pk,
                    task.kind,
                    task.name,
                    task.state,
                    f"{100 * (task.progress.get('fraction') or 0):.0f} %",
                    task.node.name if task.node else "",
                    ago(task.created_at),
                    task.message or " ".join(task.waiting_for),
                )
                for task in found
            ],
        )
