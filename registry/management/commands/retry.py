from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from registry import orders
from registry.management.choice import Many
from registry.models import Task
from registry.states import Move


class Command(Many):
    help = "Begin failed or cancelled tasks again, by id or by state and reason."
    done = "retried"
    states = Move.RETRY.sources

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--from", choices=["checkpoint", "start"], default="checkpoint"
        )

    def verb(self, options: Mapping[str, Any]) -> Callable[[Task], None]:
        over = options["from"] == "start"
        return lambda task: orders.retry(task, start_over=over)
