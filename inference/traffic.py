"""How many requests each way in has answered: counted in memory, written now and then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import Error, connection

from registry.models import Traffic
from registry.tally import Tally, merged, shown

log = logging.getLogger(__name__)

RAW, DJANGO = "raw", "django"  # the front's own answers, and those behind it
REST = "rest"  # whatever Django answers, predictions too
REFUSED = "refused"  # by the front itself: figures by code and by the name of a rate
WRITE_EVERY = 1.0  # seconds


class Counter:
    """The answers of one process; `add` in the event loop or under `lock`."""

    def __init__(self, name: str) -> None:
        self.name, self.lock = name, threading.Lock()
        self.tally, self._kept = Tally(), dict[str, Any]()

    def figures(self) -> dict[str, Any]:
        """What is not written yet."""
        with self.lock:
            return merged(self._kept, self.tally.figures())

    def note(self, figures: Mapping[str, Any]) -> None:
        """Count that too."""
        with self.lock:
            self._kept = merged(self._kept, figures)

    def take(self) -> dict[str, Any]:
        """What is to be written; empty if nothing is."""
        with self.lock:
            self._kept = merged(self._kept, self.tally.taken())
            taken, self._kept = self._kept, {}
        return taken

    def write(self, figures: Mapping[str, Any]) -> None:
        """Add it to the row, or keep it for the next time while the database is away."""
        if not figures:
            return
        try:
            Traffic.note(self.name, figures)
        except Error as error:
            log.warning("Answers could not be counted: %s", error)
            if not connection.in_atomic_block:
                connection.close_if_unusable_or_obsolete()
            self.note(figures)


HERE = {name: Counter(name) for name in (DJANGO, REST)}  # of this process


def note(seconds: float, status: int, name: str = DJANGO) -> None:
    """Count one answer by Django."""
    with HERE[name].lock:
        HERE[name].tally.add(seconds, is_error=status >= 400)


def begin() -> None:
    """Write what this process counts, from a thread of its own."""

    def run() -> None:
        pause = threading.Event()
        while not pause.wait(WRITE_EVERY):
            for counter in HERE.values():
                _write(counter)

    threading.Thread(target=run, name="traffic", daemon=True).start()


def _write(counter: Counter) -> None:
    try:
        if figures := counter.take():
            counter.write(figures)
            connection.close()
    except Exception:  # the next second tries again
        log.exception("Answers could not be counted")


def refused() -> dict[str, Any]:
    """What the front refused, as far as it is written."""
    row = Traffic.objects.filter(name=REFUSED).first()
    return row.figures if row is not None else {}


def status(
    names: Sequence[str] = (RAW, DJANGO), *, is_written: bool = False
) -> dict[str, Any]:
    """Count, errors, and quantiles in seconds, by way in; of all processes.

    With `is_written`, without this process's latest second: such counts never fall.
    """
    rows = {row.name: row for row in Traffic.objects.all()}
    figures = {name: row.figures for name, row in rows.items()}
    for name, counter in ({} if is_written else HERE).items():
        figures[name] = merged(figures.get(name, {}), counter.figures())
    return {
        name: {
            "since": rows[name].since if name in rows else None,
            **shown(figures.get(name, {})),
        }
        for name in names
    }
