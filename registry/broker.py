"""The only calls into Celery on the web side: nudges, sent from a thread of their own.

A frozen broker may hold a call for seconds, and a lost message is sent again by dispatch; so no
caller waits here, and none learns of a failure.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from celery import current_app
from django.db import transaction

from registry.crashpoints import crashpoint
from registry.kinds import KINDS

if TYPE_CHECKING:
    from registry.models import Task

log = logging.getLogger(__name__)

BACKGROUND_EXPIRES = 60  # seconds
MANY = 200  # attempts in one message

_calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
_lock = threading.Lock()
_sender: threading.Thread | None = None


def send_all(tasks: Iterable[Task]) -> None:
    """Tell the nodes of all of these; what is light goes many to a message."""
    light: dict[tuple[str, str], list[Task]] = defaultdict(list)
    for task in tasks:
        if KINDS[task.kind].is_light:
            assert task.node is not None
            light[KINDS[task.kind].celery_task, task.node.queue].append(task)
        else:
            send(task)
    for (name, queue_name), group in light.items():
        for at in range(0, len(group), MANY):
            send_many(name, queue_name, group[at : at + MANY])


def send_many(name: str, queue_name: str, tasks: Sequence[Task]) -> None:
    """One message for several attempts of one node, after the commit."""
    args = [[[task.pk, task.attempt] for task in tasks]]
    _after_commit(
        lambda: current_app.signature(name, args).apply_async(queue=queue_name)
    )


def send(task: Task) -> None:
    """Tell the task's node that the task was assigned to it, after the commit."""
    assert task.node is not None
    name, celery_id = KINDS[task.kind].celery_task, task.celery_id
    args, queue_name = [task.pk, task.attempt], task.node.queue
    _after_commit(
        lambda: current_app.signature(name, args).apply_async(
            queue=queue_name, task_id=celery_id
        )
    )


def revoke(task: Task) -> None:
    """Tell the worker that holds this attempt to look at the task's wishes, after the commit."""
    celery_id = task.celery_id
    _after_commit(lambda: _twice(lambda: current_app.control.revoke(celery_id)))


def background(name: str, args: list[int]) -> None:
    """Have the control worker run a task by name, after the commit."""
    # What a dead worker left lying is sent again, so old messages may be dropped.
    _after_commit(
        lambda: current_app.signature(name, args).apply_async(
            queue="control", expires=BACKGROUND_EXPIRES
        )
    )


def tell(names: Sequence[str], command: str, **arguments: object) -> None:
    """Send a control command to these workers, after the commit; best effort."""
    _after_commit(
        lambda: _twice(
            lambda: current_app.control.broadcast(
                command, destination=list(names), arguments=arguments
            )
        )
    )


def call(function: Callable[[], object]) -> None:
    """Run it in the sender's thread."""
    global _sender
    with _lock:
        if _sender is None or not _sender.is_alive():
            _sender = threading.Thread(target=_run, name="sender", daemon=True)
            _sender.start()
    _calls.put(function)


def flush(timeout: float = 5.0) -> bool:
    """Wait until all calls before this one were tried; for processes that end soon."""
    done = threading.Event()
    call(done.set)
    return done.wait(timeout)


def _after_commit(function: Callable[[], object]) -> None:
    transaction.on_commit(lambda: call(function), robust=True)


def _twice(function: Callable[[], object]) -> None:
    # The first control call after a restart of the broker raises once.
    try:
        function()
    except Exception:
        function()


def _run() -> None:
    while True:
        function = _calls.get()
        try:
            crashpoint("before-send")
            function()
            crashpoint("after-send")
        except Exception as error:
            log.warning("The broker did not take a message: %s", error)
