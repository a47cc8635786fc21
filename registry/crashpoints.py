"""Named points between two effects, at each of which a test may end the process.

`COMPASS_CRASHPOINT=name` ends it at the first passing of that point, `name:n` at the n-th, as
`kill -9` would. `COMPASS_CRASHPOINT_ONCE=path` is a file that is made then, and spares whoever
finds it there: so the process that is started again lives.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

CODE = 137  # what a shell says of a process that SIGKILL ended

# By name: what has happened on this side of the point, and what comes on the other.
POINTS = {
    "accepted-before-dispatch": ("the row is committed", "its placement"),
    "assigned-before-commit": ("the rows are assigned", "the commit of that"),
    "assigned-before-send": ("the assignments are committed", "their messages"),
    "before-send": ("the sender took a message", "the broker has it"),
    "after-send": ("the broker has the message", "the next one"),
    "taken-before-claim": ("the worker has the message", "the claim"),
    "claimed-before-launch": ("the attempt is claimed", "its job process"),
    "launched-before-recorded": ("the job process waits", "its pid in the row"),
    "after-beat": ("a beat and its reports are committed", "the job hears of it"),
    "over-before-final-verb": ("the job is over", "the final verb"),
    "published-before-complete": ("the model stands in the store", "the final verb"),
    "registered-before-complete": ("the version is registered", "the task's end"),
    "ended-before-clean-up": ("the final verb is committed", "the scratch goes"),
    "cleaned-before-dispatch": ("the attempt is over", "placement of what waits"),
    "rescued-one-before-next": ("one lost task is released", "the next one"),
    "rescued-before-dispatch": ("the lost tasks are released", "their placement"),
    "registered-before-give-back": ("the node's new life", "release of its tasks"),
    "given-back-before-joining": ("its tasks are released", "its first beat"),
    "left-before-release": ("the node has left", "its attempts are released"),
    "kept-before-commit": ("the file stands in the store", "a row that names it"),
    "unpacked-before-sealed": ("the upload is checked", "its row says so"),
    "sealed-before-commit": ("the members stand in the store", "its row says so"),
}


@dataclass
class Armed:
    """The one point at which this process is to end."""

    name: str
    passings: int
    once: str


def armed(point: str, once: str = "") -> Armed | None:
    """What `COMPASS_CRASHPOINT` and `COMPASS_CRASHPOINT_ONCE` ask for."""
    name, _, count = point.partition(":")
    return Armed(name, int(count or 1), once) if name else None


def crashpoint(name: str) -> None:
    """End the process here if a test asked for it; else nothing."""
    if _armed is not None and _armed.name == name:
        _pass(_armed)


def _pass(point: Armed) -> None:
    point.passings -= 1
    if point.passings > 0:
        return
    if point.once:
        try:
            os.close(os.open(point.once, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return
    os._exit(CODE)


_armed = armed(
    os.environ.get("COMPASS_CRASHPOINT", ""),
    os.environ.get("COMPASS_CRASHPOINT_ONCE", ""),
)
