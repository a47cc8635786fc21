from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from registry import broker, dispatcher, draining
from registry.management.nodes import node_of
from registry.management.output import Command as Base
from registry.management.output import Failed
from registry.models import Task
from registry.views.nodes import shown

LOOK_EVERY = 0.5  # seconds


class Command(Base):
    help = "Place nothing more on a node, so that it may be stopped once it is empty."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("node")
        parser.add_argument(
            "--move",
            action="store_true",
            help="have what runs there leave a checkpoint and go on elsewhere",
        )
        parser.add_argument("--wait", action="store_true", help="until it is empty")
        parser.add_argument(
            "--timeout", type=float, help="seconds to wait at most; then exit code 1"
        )
        parser.add_argument("--note", default="", help="why, for others to read")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        node = node_of(options["node"])
        mode = draining.MOVE if options["move"] else draining.FINISH
        draining.drain(node, mode, options["note"][:200])
        broker.flush()
        dispatcher.flush()
        placed = Task.objects.placed().filter(node=node)
        deadline = time.monotonic() + (options["timeout"] or float("inf"))
        while options["wait"] and placed.exists():
            if time.monotonic() > deadline:
                raise Failed(f"{placed.count()} tasks are still on {node}.")
            time.sleep(LOOK_EVERY)
        if options["json"]:
            self.print_json(shown(node))
        elif left := placed.count():
            self.stdout.write(f"{node} is draining; {left} tasks are still there.")
        else:
            self.stdout.write(f"{node} is drained.")
