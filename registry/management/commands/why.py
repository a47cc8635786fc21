from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry import clock, waits
from registry.management.output import Command as Base
from registry.management.output import task_of
from registry.states import State


class Command(Base):
    help = "Tell why a task waits and until when, or why it ended as it did."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("task", help="id of the task")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        task = task_of(options["task"])
        told = waits.reasons(task, clock.now(), look=True)
        if options["json"]:
            start = task.estimated_start if task.state == State.PENDING else None
            self.print_json(
                {
                    "id": str(task.pk),
                    "state": task.state,
                    "waiting_for": told,
                    "estimated_start": start,
                    "reason": task.reason,
                    "message": task.message,
                    "hint": task.hint,
                }
            )
            return
        where = f" on {task.node.name}" if task.node else ""
        when = f"; it {begins}" if (begins := waits.start(task)) else ""
        self.stdout.write(f"Task {task.pk} is {task.state}{where}{when}.")
        for sentence in [*told, task.message, task.hint]:
            if sentence:
                self.stdout.write(f"- {sentence}")
