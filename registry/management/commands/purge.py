from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from registry import orders
from registry.management.choice import Many
from registry.models import Task
from registry.states import FINAL


class Command(Many):
    help = "Remove final tasks with their files, by id or by state and reason."
    done = "removed"
    states = FINAL

    def verb(self, options: Mapping[str, Any]) -> Callable[[Task], None]:
        return orders.purge
