"""Offsets into a file: where each so many records begin, kept beside the task."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inference.sources import write_aside


@dataclass
class Marks:
    """`every` records an offset in bytes; the last number is how many records there are."""

    path: Path
    _seen: Any = None  # the numbers, once they were read

    def exist(self) -> bool:
        if not (exists := self.path.exists()):
            self._seen = None
        return exists

    def write(self, every: int, offsets: Iterable[int], count: Any) -> None:
        """Keep the offsets; `count` tells the number of records once they are exhausted."""
        numbers = array("q", [every])
        numbers.extend(offsets)
        numbers.append(count())
        found = np.frombuffer(numbers, np.int64)

        def save(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, found)

        write_aside(self.path, save)
        self._seen = None

    @property
    def every(self) -> int:
        return int(self._numbers()[0])

    @property
    def count(self) -> int:
        return int(self._numbers()[-1])

    def before(self, record: int) -> tuple[int, int]:
        """The offset of the last mark at or before that record, and that mark's record."""
        numbers = self._numbers()
        mark = min(record // int(numbers[0]), len(numbers) - 3)
        return int(numbers[1 + mark]), mark * int(numbers[0])

    def _numbers(self) -> Any:
        if self._seen is None:
            self._seen = np.load(self.path, mmap_mode="r")
        return self._seen
