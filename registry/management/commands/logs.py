from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from registry import logs
from registry.management.output import Command as Base
from registry.management.output import task_of
from registry.models import Task

LOOK_EVERY = 0.5  # seconds


class Command(Base):
    help = "Print a task's log, with -f as it grows until the task ends."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("task", help="id of the task")
        parser.add_argument("-f", "--follow", action="store_true")
        parser.add_argument("--tail", type=int, help="only the last so many bytes")
        parser.add_argument(
            "--json", action="store_true", help="print JSON, with -f one object a line"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        task = task_of(options["task"])
        query = {"limit": str(logs.MOST)}
        if options["tail"] is not None:
            query = {"tail": str(max(0, options["tail"]))}
        pieces = _pieces(task, query, follow=options["follow"])
        if options["json"] and not options["follow"]:
            self.print_json(_joined(list(pieces)))
            return
        for piece in pieces:
            line = json.dumps(piece) + "\n" if options["json"] else piece["text"]
            sys.stdout.write(line)
            sys.stdout.flush()


def _pieces(
    task: Task, query: dict[str, str], *, follow: bool
) -> Iterator[dict[str, Any]]:
    """The log from where the query says to its end, or to the end of the task."""
    is_first = True
    while True:
        piece = logs.read(task, query)
        more = piece["next_offset"] < piece["size"]
        if piece["text"] or piece["complete"] or is_first:
            yield piece
        if piece["complete"] or not (more or follow):
            return
        is_first = False
        query = {"offset": str(piece["next_offset"]), "limit": str(logs.MOST)}
        if not more:
            time.sleep(LOOK_EVERY)
            task.refresh_from_db()


def _joined(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    text = "".join(piece["text"] for piece in pieces)
    return {**pieces[-1], "text": text, "offset": pieces[0]["offset"]}
