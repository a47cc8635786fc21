from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from typing import Any

from registry import logs
from registry.management.output import Command as Base
from registry.management.output import task_of

LOOK_EVERY = 0.5  # seconds


class Command(Base):
    help = "Print a task's log, with -f as it grows until the task ends."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("task", help="id of the task")
        parser.add_argument("-f", "--follow", action="store_true")
        parser.add_argument("--tail", type=int, help="only the last so many bytes")

    def handle(self, *args: Any, **options: Any) -> None:
        task = task_of(options["task"])
        query = {"limit": str(logs.MOST)}
        if options["tail"] is not None:
            query = {"tail": str(max(0, options["tail"]))}
        while True:
            piece = logs.read(task, query)
            sys.stdout.write(piece["text"])
            sys.stdout.flush()
            more = piece["next_offset"] < piece["size"]
            if piece["complete"] or not (more or options["follow"]):
                return
            query = {"offset": str(piece["next_offset"]), "limit": str(logs.MOST)}
            if not more:
                time.sleep(LOOK_EVERY)
                task.refresh_from_db()
