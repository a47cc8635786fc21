"""What a worker counts for aliases with a second version, and the shadows it compares with.

A shadow is asked when its first has answered and nobody waits: by one thread, from a bounded line,
and what does not fit there is dropped and counted.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from django.db import close_old_connections, connection

from inference.differences import difference
from inference.frames import Answer, Status
from inference.routes import Watch
from inference.stop import Stopped, StopWhen
from registry.errors import Problem
from registry.models import Second
from registry.tally import Tally, merged

log = logging.getLogger(__name__)

MOST_WAITING = 64  # batches
MOST_BYTES = 16 * 1024**2  # of their items and answers
LARGEST = MOST_BYTES // 4  # bytes of one batch
PIECE = 32  # items between two looks at whether somebody waits
PAUSE = 0.005  # seconds until the next look
PATIENCE = 10.0  # seconds that a batch half compared waits for nobody to wait
YIELDS_AFTER = 1.0  # seconds of a piece, from which on whoever asks ends it
LONGEST = 30.0  # seconds of a piece while nobody asks
WRITE_EVERY = 0.5  # seconds
MOST_TALLIES = 1000  # versions counted at a time
ERROR = (
    b'"error":{"code":'  # as an answer is written; inside a text the quotes are escaped
)

Predict = Callable[[int, Sequence[Any]], list[dict[str, Any]]]


@dataclass(frozen=True)
class _Batch:
    second: int
    shadow: int
    lists: Sequence[bytes]
    answers: Sequence[Answer]
    spent: float

    @property
    def size(self) -> int:
        return sum(map(len, self.lists)) + sum(len(one) for _, one in self.answers)


class Mirror:
    """`is_idle` says whether no prediction is asked for, `has_room` whether a version loads
    without another having to go."""

    def __init__(
        self,
        predict: Predict,
        *,
        is_idle: Callable[[], bool],
        has_room: Callable[[int], bool],
        write: Callable[[int, Mapping[str, Any]], None] = Second.note,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._predict, self._is_idle, self._has_room = predict, is_idle, has_room
        self._write_row, self._monotonic, self._sleep = write, monotonic, sleep
        self._changed = threading.Condition(threading.RLock())
        self._waiting, self._bytes = deque[_Batch](), 0
        self._tallies: dict[tuple[int, int], Tally] = {}
        self._figures: dict[int, dict[str, Any]] = {}
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def note(
        self,
        watch: Watch,
        version: int,
        lists: Sequence[bytes],
        answers: Sequence[Answer],
        spent: float,
    ) -> None:
        """Count a batch that was answered in so many seconds; its shadow is asked later."""
        try:
            with self._changed:
                if self._is_closed or len(self._tallies) >= MOST_TALLIES:
                    return
                self._count_answers(watch, version, answers, spent)
                if watch[1]:
                    self._offer(_Batch(*watch, lists, answers, spent))
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="mirror", daemon=True
                    )
                    self._thread.start()
                self._changed.notify()
        except Exception:  # the answer was given, whatever becomes of its count
            log.exception("A prediction could not be counted")

    def close(self) -> None:
        """Write what was counted; what waits is not asked any more."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(5.0)

    def step(self) -> bool:
        """Ask the shadow of the next batch, if nobody waits for a prediction."""
        if not self._waiting or not self._is_idle():
            return False
        with self._changed:
            if not self._waiting:
                return False  # closed meanwhile
            batch = self._waiting.popleft()
            self._bytes -= batch.size
        try:
            self._compare(batch)
        except Exception:
            log.exception("A shadow could not be compared")
            self._drop(batch)
        return True

    def write(self) -> None:
        """Add what was counted to the rows; what cannot be written is kept."""
        with self._changed:
            tallies, self._tallies = self._tallies, {}
            for (second, version), tally in tallies.items():
                if taken := tally.taken():
                    self._add(second, {"answered": {str(version): taken}})
            found = list(self._figures)
        for second in found:
            with self._changed:
                figures = self._figures.pop(second)
            try:
                self._write_row(second, figures)
            except Exception:
                with self._changed:
                    self._add(second, figures)
                raise

    def _count_answers(
        self, watch: Watch, version: int, answers: Sequence[Answer], spent: float
    ) -> None:
        tally = self._tallies.setdefault((watch[0], version), Tally())
        for status, content in answers:
            if status != Status.ODD:
                is_error = status != Status.OUTPUTS or ERROR in content
                tally.add(spent, is_error=is_error)

    def _offer(self, batch: _Batch) -> None:
        is_full = len(self._waiting) >= MOST_WAITING
        size = batch.size
        if is_full or size > LARGEST or self._bytes + size > MOST_BYTES:
            self._drop(batch)
            return
        self._waiting.append(batch)
        self._bytes += size

    def _drop(self, batch: _Batch) -> None:
        self._count(batch, {"dropped": len(batch.lists)})

    def _count(self, batch: _Batch, figures: Mapping[str, Any]) -> None:
        with self._changed:
            self._add(batch.second, {"shadow": figures})

    def _add(self, second: int, figures: Mapping[str, Any]) -> None:
        self._figures[second] = merged(self._figures.get(second, {}), figures)

    def _run(self) -> None:
        written = self._monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                is_over = self._is_closed
            try:
                is_done = not is_over and self.step()
                if is_over or self._monotonic() - written > WRITE_EVERY:
                    written = self._monotonic()
                    self.write()
            except Exception as error:
                log.warning("What was counted could not be written: %r", error)
                close_old_connections()
                is_done = False
            if is_over:
                connection.close()
                return
            if not is_done:
                self._sleep(PAUSE if self._waiting else WRITE_EVERY / 5)

    def _has_work(self) -> bool:
        return bool(self._is_closed or self._waiting or self._tallies or self._figures)

    def _compare(self, batch: _Batch) -> None:
        if not self._has_room(batch.shadow):
            self._drop(batch)
            return
        pairs = [
            (items, outputs)
            for one, (status, content) in zip(batch.lists, batch.answers, strict=True)
            if status == Status.OUTPUTS
            for items, outputs in [(_read(one), _read(content))]
        ]
        items = [item for some, _ in pairs for item in some]
        firsts = [output for _, some in pairs for output in some]
        figures: dict[str, Any] = {"compared": len(pairs), "items": len(items)}
        try:
            self._predict(batch.shadow, [])  # loads it; that is not its latency
            found = self._outputs(batch.shadow, items)
        except Problem as problem:
            log.warning("A shadow did not answer: %s", problem.detail)
            found = [{"error": problem.as_dict()}] * len(items), None
        if found is None:
            self._drop(batch)
            return
        seconds, spent = found
        if spent is not None:
            first, second = Tally(), Tally()
            for _ in pairs:
                first.add(batch.spent)
                second.add(spent)
            figures |= {"first": first.taken(), "second": second.taken()}
        self._count(batch, merged(figures, difference(firsts, seconds)))

    def _outputs(
        self, shadow: int, items: list[Any]
    ) -> tuple[list[dict[str, Any]], float | None] | None:
        """The shadow's outputs and the seconds they took; None if it has to give way."""
        outputs: list[dict[str, Any]] = []
        spent = 0.0
        for start in range(0, len(items), PIECE):
            until = self._monotonic() + PATIENCE
            while not self._is_idle():
                if self._is_closed or self._monotonic() > until:
                    return None
                self._sleep(PAUSE)
            began = self._monotonic()
            try:
                with StopWhen(partial(self._has_to_end, began)):
                    outputs += self._predict(shadow, items[start : start + PIECE])
            except Stopped:
                return None
            spent += self._monotonic() - began
        return outputs, spent

    def _has_to_end(self, began: float) -> bool:
        """Whether a piece that began then keeps others waiting, or the worker from its end."""
        spent = self._monotonic() - began
        if self._is_closed or spent > LONGEST:
            return True
        return spent > YIELDS_AFTER and not self._is_idle()


def _read(content: bytes) -> list[Any]:
    try:
        found: list[Any] = orjson.loads(content)
    except ValueError:  # a whole number beyond 64 bits
        found = json.loads(content)
    return found
