from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry import clock, waits
from registry.management.choice import add_names, chosen, named
from registry.management.output import Command as Base
from registry.management.output import ago
from registry.models import Task
from registry.serializers.tasks import TaskSerializer


class Command(Base):
    help = "List tasks, the newest first, with why they wait, until when, or why they failed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_names(parser)
        parser.add_argument("--limit", type=int, default=20)
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = Task.objects.select_related("node", "owner", "array")
        rows = rows.prefetch_related("dependencies")
        found = chosen(rows, named(options))[: max(1, options["limit"])]
        if options["json"]:
            self.print_json(TaskSerializer(found, many=True).data)
            return
        moment = clock.now()
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
                    _why(task, moment),
                )
                for task in found
            ],
        )


def _why(task: Task, moment: Any) -> str:
    told = " ".join(waits.reasons(task, moment)) or task.message
    return f"{told} ({start})" if (start := waits.start(task)) else told
