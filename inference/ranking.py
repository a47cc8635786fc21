"""The best of a batch: what each shard keeps, and the order of all."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from inference.sinks.files import Bytes
from inference.sinks.jsonl import line


@dataclass(frozen=True)
class Ranked:
    """One answer with its place: the least `key` is the best; rows count from 0."""

    key: float
    row: int
    answer: Mapping[str, Any]


@dataclass(frozen=True)
class Top:
    """The `count` best by one output; the highest unless `lowest`. Equal ones by row."""

    count: int
    by: str
    lowest: bool = False

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Top | None:
        """What a task's parameters ask for."""
        about = params.get("top")
        return cls(**about) if about else None

    def ranked(
        self, first: int, answers: Sequence[Mapping[str, Any]]
    ) -> Iterator[Ranked]:
        """The answers that have a place; rows count on from `first`."""
        for row, answer in enumerate(answers, first):
            value = answer.get(self.by)
            while isinstance(value, list) and len(value) == 1:
                value = value[0]  # graphs often keep an axis of one
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if math.isfinite(value):
                yield Ranked(value if self.lowest else -value, row, answer)

    def best(self, some: Iterable[Ranked]) -> list[Ranked]:
        """The best in order; holds no more than it keeps."""
        return heapq.nsmallest(self.count, some, key=lambda one: (one.key, one.row))


def write(path: Path, best: Sequence[Ranked]) -> None:
    file = Bytes(path)
    file.put(line([one.key, one.row, one.answer]) for one in best)
    file.close()


def read(paths: Iterable[Path]) -> Iterator[Ranked]:
    for path in paths:
        with path.open("rb") as file:
            for text in file:
                yield Ranked(*orjson.loads(text))
