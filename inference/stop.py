"""The end of what is computed for nobody any more.

A thread computes `with` a Stop. Between two passes it looks itself; a pass on ONNX Runtime ends
between two nodes of its graph, told to by a thread that is awake only while passes run.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self
from weakref import WeakSet

log = logging.getLogger(__name__)

LOOK_EVERY = 0.1  # seconds, while passes run
QUIET = 20  # looks that find none, until there is none any more


class Stopped(Exception):
    """Nobody waits for it any more: not the fault of an item."""


class TooLong(Exception):
    """A pass took longer than it may."""


class Stop:
    """For the thread that computes within it: until a moment of the monotonic clock, or `now`."""

    __slots__ = ("until",)

    def __init__(self, until: float = math.inf) -> None:
        self.until = until

    def now(self) -> None:
        self.until = -math.inf

    def __enter__(self) -> Self:
        _here.stop = self
        return self

    def __exit__(self, *_: object) -> None:
        _here.stop = NEVER


class StopWhen(Stop):
    """Also once `is_over` says so, which any thread may ask and which never raises."""

    __slots__ = ("_is_over", "_until")

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over
        super().__init__()

    @property
    def until(self) -> float:
        if self._is_over():
            self._until = -math.inf  # whatever it says later
        return self._until

    @until.setter
    def until(self, moment: float) -> None:
        self._until = moment


NEVER = Stop()


class _Here(threading.local):
    stop = NEVER
    passing: _Passing | None = None


class _Passing:
    """The pass that a thread is at, if `stop` is one."""

    def __init__(self) -> None:
        import onnxruntime

        self.make = onnxruntime.RunOptions
        self.options, self.is_told = self.make(), False
        self.stop: Stop | None = None
        self.end = math.inf
        # So that none is told what was meant for the one before.
        self.lock = threading.Lock()

    def look(self, now: float) -> bool:
        """Whether there is one; one that is over is told so."""
        with self.lock:
            stop = self.stop
            if stop is None:
                return False
            if (stop.until <= now or self.end <= now) and not self.is_told:
                self.is_told = self.options.terminate = True
            return True


_here = _Here()
_passing: WeakSet[_Passing] = WeakSet()
_watched = threading.Lock()
_awake = threading.Event()
_watch: list[threading.Thread] = []


def look() -> None:
    """Raises Stopped if this thread's work is wanted no more."""
    if _here.stop.until <= time.monotonic():
        raise Stopped


def run(
    session: Any,
    names: Sequence[str] | None,
    given: Mapping[str, Any],
    longest: float = math.inf,
) -> list[Any]:
    """One pass of a session. Raises Stopped, and TooLong after so many seconds."""
    one = _here.passing or _register()
    one.end = time.monotonic() + longest
    one.stop = stop = _here.stop
    if not _awake.is_set():
        _wake()
    try:
        found: list[Any] = session.run(names, given, one.options)
        return found
    except Exception:
        if not one.is_told:
            raise
        raise (Stopped if stop.until < one.end else TooLong) from None
    finally:
        with one.lock:
            one.stop = None
        if one.is_told:
            one.options, one.is_told = one.make(), False


def _register() -> _Passing:
    one = _here.passing = _Passing()
    with _watched:
        _passing.add(one)
    return one


def _wake() -> None:
    with _watched:
        if not _watch:
            one = threading.Thread(target=_keep_looking, name="stop", daemon=True)
            try:
                one.start()
            except RuntimeError as error:  # the next pass tries again
                log.warning("No thread watches passes: %s", error)
                return
            _watch.append(one)
        _awake.set()


def _keep_looking() -> None:
    quiet = 0
    while True:
        if quiet >= QUIET:
            _awake.clear()  # whoever begins from here on sets it
            if not _look():
                _awake.wait()
            _awake.set()
            quiet = 0
        time.sleep(LOOK_EVERY)
        quiet = 0 if _look() else quiet + 1


def _look() -> bool:
    with _watched:
        passing = list(_passing)
    now = time.monotonic()
    found = [one.look(now) for one in passing]  # all of them
    return any(found)
