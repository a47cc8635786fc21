"""Emptying a node for its maintenance: nothing new is placed there, and what runs ends or moves."""

from __future__ import annotations

import logging

from django.db import transaction

from registry import broker, dispatcher
from registry.locks import lock_until_commit
from registry.models import Node, Stale, Task
from registry.states import PLACED, State

log = logging.getLogger(__name__)

FINISH, MOVE = "finish", "move"
MODES = (FINISH, MOVE)


def drain(node: Node, mode: str = FINISH, note: str = "") -> None:
    """Place nothing more there; with `move`, send what may go on elsewhere there.

    What waits for its worker goes back in line at once. What runs is asked to leave a checkpoint
    and let go; a script that is not to be run twice ends where it is.
    """
    with transaction.atomic():
        lock_until_commit(
            "dispatch"
        )  # or a pass that has begun would still place there
        Node.objects.filter(pk=node.pk).update(draining=True, drain_note=note)
        node.refresh_from_db()
        here = Task.objects.filter(node=node, state__in=PLACED).order_by("pk")
        for task in here if mode == MOVE else ():
            try:
                _move(task, node)
            except Stale as stale:  # it ended by itself
                log.info("%s", stale)
    dispatcher.nudge()


def undrain(node: Node) -> None:
    """Place work there again."""
    Node.objects.filter(pk=node.pk).update(draining=False, drain_note="")
    node.refresh_from_db()
    transaction.on_commit(dispatcher.nudge, robust=True)


def _move(task: Task, node: Node) -> None:
    if task.state == State.ASSIGNED:
        task.release("drained", f"{node.name} is drained; it had not begun there.")
    elif task.may_run_again():
        task.request_release()
        broker.revoke(task)  # its supervisor looks at the row at once
