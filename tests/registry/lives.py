"""Tasks brought into any state by their own verbs, and what a row was at a moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from registry.models import Node, Task
from registry.states import State

Verb = Callable[[Task, Node], None]

# One call of each verb that is an arrow of the chart.
VERBS: dict[str, Verb] = {
    "assign": lambda task, node: task.assign(node),
    "start": lambda task, node: task.start(node),
    "complete": lambda task, node: task.complete({"done": True}),
    "fail": lambda task, node: task.fail("error", "It broke."),
    "forgo": lambda task, node: task.forgo("dependency_failed", "It came to nothing."),
    "cancel": lambda task, node: task.cancel(),
    "release": lambda task, node: task.release("node_lost", "The node is gone."),
    "pause": lambda task, node: task.pause(),
    "resume": lambda task, node: task.resume(),
    "retry": lambda task, node: task.retry(),
}
# The verbs that only the one who holds the attempt may call.
WORKERS = ("start", "beat", "complete", "fail", "cancel", "release", "pause")
WAY: dict[State, tuple[str, ...]] = {
    State.PENDING: (),
    State.ASSIGNED: ("assign",),
    State.RUNNING: ("assign", "start"),
    State.PAUSED: ("assign", "start", "pause"),
    State.COMPLETED: ("assign", "start", "complete"),
    State.FAILED: ("assign", "start", "fail"),
    State.CANCELLED: ("assign", "start", "cancel"),
}


def bring(task: Task, state: State, node: Node) -> Task:
    """Lead a new task to the state by verbs alone."""
    for verb in WAY[state]:
        VERBS[verb](task, node)
    assert task.state == state
    return task


def snapshot(task: Task) -> dict[str, Any]:
    """All that the database holds of the task: its row, timeline and attempts."""
    return {
        "row": Task.objects.filter(pk=task.pk).values().get(),
        "events": list(task.events.order_by("pk").values()),
        "attempts": list(task.attempts.order_by("pk").values()),
    }


def again(task: Task) -> Task:
    """Another object of the same row, as another process would hold it."""
    return Task.objects.get(pk=task.pk)
