from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from registry import broker, cancellation
from registry.management.output import Command as Base
from registry.management.output import Failed, task_of
from registry.models import Stale
from registry.scheduler import dispatch
from registry.states import State

WAIT = 15.0  # seconds for the worker to end the job


class Command(Base):
    help = "Cancel a task and wait until it is gone."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("task", help="id of the task")
        parser.add_argument("--no-wait", action="store_true", help="only ask")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        task = task_of(options["task"])
        try:
            if task.state != State.CANCELLED:
                cancellation.cancel(task)
        except Stale:
            task.refresh_from_db()
            if task.state != State.CANCELLED:
                raise Failed(f"Task {task.pk} is {task.state} already.") from None
        broker.flush()
        dispatch()
        deadline = time.monotonic() + WAIT
        while task.state == State.RUNNING and not options["no_wait"]:
            if time.monotonic() > deadline:
                raise Failed(f"Task {task.pk} was asked to stop and still runs.")
            time.sleep(0.1)
            task.refresh_from_db()
        if options["json"]:
            self.print_json({"id": str(task.pk), "state": task.state})
        else:
            self.stdout.write(f"Task {task.pk} is {task.state}.")
