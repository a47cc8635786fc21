"""Named points between two effects, at each of which a test may end the process.

`COMPASS_CRASHPOINT=name` ends it at the first passing of that point, `name:n` at the n-th, as
`kill -9` would. `COMPASS_CRASHPOINT_ONCE=path` is a file that is made then, and spares whoever
finds it there: so the process that is started again lives.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

CODE = 137  # what a shell says of a process that SIGKILL ended

# What is done on this side of the point, and what not yet.
POINTS = {
    "accepted-before-dispatch": ("the row is committed", "dispatch"),
    "assigned-before-commit": ("the rows are assigned", "their commit"),
    "assigned-before-send": ("the assignment is committed", "its message"),
    "before-send": ("the sender took the call", "the broker has the message"),
    "after-send": ("the broker has the message", "the next call"),
    "taken-before-claim": ("the worker has the message", "the claim"),
    "claimed-before-launch": ("the attempt is claimed", "its job process"),
    "launched-before-recorded": ("the job process runs", "its pid stands in the row"),
    "after-beat": ("a beat and its reports are committed", "the next look"),
    "over-before-final-verb": ("the job is over", "the final verb"),
    "published-before-complete": ("the model stands in the store", "its row"),
    "registered-before-complete": ("the version's row is written", "`complete`"),
    "ended-before-clean-up": ("the final verb is committed", "the scratch is removed"),
    "cleaned-before-dispatch": ("the attempt is over", "dispatch of what waits"),
    "rescued-one-before-next": ("one lost task is released", "the next one is"),
    "rescued-before-dispatch": ("all lost tasks are released", "their placement"),
    "registered-before-give-back": ("the node's new life", "its tasks are released"),
    "given-back-before-commit": ("its tasks are released", "the commit of both"),
    "left-before-release": ("the node has left", "its attempts are released"),
    "kept-before-seal": ("the file stands in the store", "the row says so"),
    "unpacked-before-sealed": ("the upload is checked", "its row says so"),
    "sealed-before-unpacked": ("the row says sealed", "the members' place"),
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
