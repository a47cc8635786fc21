from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from registry import orders
from registry.management.choice import Many
from registry.models import Task
from registry.states import LIVE


class Command(Many):
    help = "Let paused tasks go on from their checkpoints."
    done = "resumed"
    states = LIVE

    def verb(self, options: Mapping[str, Any]) -> Callable[[Task], None]:
        return orders.resume
