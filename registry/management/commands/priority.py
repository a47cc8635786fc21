from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry import broker, orders, scheduler
from registry.management.output import Command as Base
from registry.management.output import WrongUse, task_of
from registry.serializers.tasks import TaskChange


class Command(Base):
    help = "Set the priority of a task, or of an array and what is live of it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("task", help="id of the task")
        parser.add_argument("priority", type=int, help="-1000 to 1000; higher is first")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        task = task_of(options["task"])
        asked = TaskChange(data={"priority": options["priority"]})
        if not asked.is_valid():
            raise WrongUse(f"priority: {asked.errors['priority'][0]}")
        orders.change(task, asked.validated_data)
        scheduler.dispatch()
        broker.flush()
        task.refresh_from_db()
        if options["json"]:
            self.print_json({"id": str(task.pk), "priority": task.priority})
        else:
            self.stdout.write(f"Task {task.pk} has the priority {task.priority}.")
