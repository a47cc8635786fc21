"""The life of a task as data: states, moves between them, and reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from django.db.models import TextChoices


class State(TextChoices):
    PENDING = "pending"  # accepted; waits in line or for its back-off
    ASSIGNED = "assigned"  # placed on a node with its resources; message sent
    RUNNING = "running"  # one supervisor owns it and beats
    PAUSED = "paused"  # stopped at a checkpoint; holds no resources
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


PLACED = frozenset({State.ASSIGNED, State.RUNNING})
LIVE = frozenset({State.PENDING, State.PAUSED}) | PLACED
FINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


class Move(Enum):
    """Every arrow there is: the states it may leave, and the one it enters."""

    ASSIGN = {State.PENDING}, State.ASSIGNED
    START = {State.ASSIGNED}, State.RUNNING
    COMPLETE = {State.RUNNING}, State.COMPLETED
    FAIL = {State.ASSIGNED, State.RUNNING}, State.FAILED
    FORGO = {State.PENDING}, State.FAILED
    CANCEL = set(LIVE), State.CANCELLED
    RELEASE = {State.ASSIGNED, State.RUNNING}, State.PENDING
    PAUSE = {State.RUNNING}, State.PAUSED
    RESUME = {State.PAUSED}, State.PENDING
    RETRY = {State.FAILED, State.CANCELLED}, State.PENDING

    def __init__(self, sources: set[State], target: State) -> None:
        self.sources, self.target = frozenset(sources), target


class Retry(Enum):
    NEVER = "never"
    COUNTED = "counted"  # up to the task's max_retries, with back-off
    FREE = "free"  # does not use up the user's retries


@dataclass(frozen=True)
class Because:
    """What a reason means: whether it is retried, and what the user can do about it."""

    retry: Retry
    hint: str


REASONS: dict[str, Because] = {
    "node_lost": Because(
        Retry.FREE, "The worker died or was cut off; see its log on that node."
    ),
    "worker_stopped": Because(
        Retry.FREE,
        "The worker was stopped; a script that had begun needs a retry, others go on.",
    ),
    "preempted": Because(Retry.FREE, "Another task took the resources for a while."),
    "drained": Because(Retry.FREE, "Its node was drained; it goes on elsewhere."),
    "no_room": Because(Retry.FREE, "It waits until its node's host has room."),
    "connection": Because(Retry.COUNTED, "Check the network and the services."),
    "timeout_io": Because(Retry.COUNTED, "A disk or service was too slow."),
    "broker": Because(Retry.COUNTED, "Check that the broker is up."),
    "killed": Because(
        Retry.COUNTED, "Something outside Compass ended the job process."
    ),
    "hung": Because(
        Retry.COUNTED, "It gave no sign of life; see its log, or raise hang_after."
    ),
    "exit_status": Because(Retry.COUNTED, "Read the log; the program said why."),
    "out_of_memory": Because(
        Retry.NEVER, "Ask for more memory, or take a smaller batch or model."
    ),
    "disk_full": Because(Retry.NEVER, "Free some disk space, then retry the task."),
    "time_limit": Because(Retry.NEVER, "Ask for a longer time limit."),
    "error": Because(Retry.NEVER, "Read the end of the log; it holds the trace."),
    "bad_data": Because(Retry.NEVER, "Mend the data at the named place, upload again."),
    "bad_params": Because(Retry.NEVER, "Change the parameters and submit again."),
    "model_unavailable": Because(Retry.NEVER, "Check that the model still exists."),
    "dependency_failed": Because(Retry.NEVER, "See the task that it depends on."),
    "cancelled_by_user": Because(Retry.NEVER, "Retry it if that was not meant."),
}
