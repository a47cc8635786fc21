"""The files of a batch: its parts, and the whole of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from inference.sinks.files import Bytes
from inference.sinks.jsonl import line
from inference.sources import write_aside
from registry import store

PARTS = 64  # of a batch, so that every worker gets some
SMALLEST, LARGEST = 32, 2000  # items of a shard
MOST = 5000  # shards of a batch
MADE = ("items.csv", "items.arrow", "marks.npy", "proteins.npy")  # from its data set


class Files:
    """A shard's file stands whole or not at all, so a run that was killed goes on where it was.

    The same version answers the same, so two runs may write one shard.
    """

    def __init__(self, task: int, suffix: str) -> None:
        self.home, self.suffix = store.task_path(task), suffix
        self.folder = self.home / "shards"
        self.results = self.home / "files" / f"results{suffix}"

    def gathered(self, attempt: int) -> Path:
        """The results as far as they have come in an attempt of the task."""
        return self.folder / f"gathered-{attempt}{self.suffix}"

    def shard(self, number: int) -> Path:
        return self.folder / f"{number:06d}{self.suffix}"

    def missing(self, numbers: Iterable[int]) -> list[int]:
        """Those of the shards that have no file."""
        return [number for number in numbers if not self.shard(number).exists()]

    def publish(self, write: Callable[[Path], object]) -> None:
        """Have the results written aside, then put them in their place."""
        write_aside(self.results, write)

    def take(self, path: Path) -> None:
        """Put a whole file of results into its place."""
        self.results.parent.mkdir(parents=True, exist_ok=True)
        path.replace(self.results)

    def tidy(self) -> None:
        """Drop what was made on the way, once the task is over."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in MADE:
            (self.home / name).unlink(missing_ok=True)

    def forget(self) -> None:
        """Drop all answers, to begin again."""
        self.tidy()
        self.results.unlink(missing_ok=True)


def size_for(count: int) -> int:
    """The items of a shard of a batch of `count`."""
    fitting = min(max(-(-count // PARTS), SMALLEST), LARGEST)
    return max(fitting, -(-count // MOST))


def accept(task: int, items: Path) -> None:
    """Take a file of items, one JSON value a line, as the task's own."""
    path = store.task_path(task) / "items.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    items.replace(path)


def write_items(items: Iterable[Any]) -> tuple[Path, int]:
    """A file aside with one item a line, and the number of items."""
    path, count = store.aside(".jsonl"), 0
    file = Bytes(path)
    for item in items:
        count += 1
        file.put([line(item)])
    file.close()
    return path, count
