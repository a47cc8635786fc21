"""The files of a batch: its items, the answers shard by shard, and the whole of them."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from inference.forms import Form
from registry import store
from registry.errors import Problem

SIZE = 200  # items of a shard
RESULTS = "results.jsonl"


class Shards:
    """A shard stands whole or not at all, so a run that was killed goes on where it was.

    The same version answers the same, so two runs may write one shard.
    """

    size = SIZE

    def __init__(self, task: int, form: Form) -> None:
        home = store.task_path(task)
        self._form = form
        self._items, self._folder = home / "items.jsonl", home / "shards"
        self.results = home / "files" / RESULTS

    def accept(self, items: Path) -> None:
        """Take the file of items, one JSON value a line, as the task's own."""
        self._items.parent.mkdir(parents=True, exist_ok=True)
        items.replace(self._items)

    def missing(self) -> Iterator[tuple[int, list[str]]]:
        """Number and lines of each shard that is not answered yet."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._items.open() as file:
            for number in itertools.count():
                lines = list(itertools.islice(file, SIZE))
                if not lines:
                    return
                if not self._path(number).exists():
                    yield number, lines

    def write(
        self, number: int, items: Sequence[Any], answers: Sequence[dict[str, Any]]
    ) -> None:
        both = zip(items, answers, strict=True)
        lines = (_line(self._form.result(item, answer)) for item, answer in both)
        _write(self._path(number), lines)

    def finish_all_with(self, problem: Problem) -> None:
        """Every item that has no answer yet gets this one."""
        failed = {"error": problem.as_dict()}
        for number, lines in self.missing():
            items = [json.loads(line) for line in lines]
            self.write(number, items, [failed] * len(items))
        self.assemble()

    def assemble(self) -> dict[str, int]:
        """Put the shards into one file, in order; the counts of items."""
        total = failed = 0

        def lines() -> Iterator[str]:
            nonlocal total, failed
            for path in sorted(self._folder.iterdir()):
                with path.open() as file:
                    for line in file:
                        total += 1
                        failed += not json.loads(line)["success"]
                        yield line

        self.results.parent.mkdir(parents=True, exist_ok=True)
        _write(self.results, lines())
        return {
            "total_count": total,
            "success_count": total - failed,
            "failed_count": failed,
        }

    def tidy(self) -> None:
        """Drop the shards, once the task is over."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def forget(self) -> None:
        """Drop all answers, to begin again."""
        self.tidy()
        self.results.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.jsonl"


def write_items(items: Iterable[Any]) -> tuple[Path, int]:
    """A file aside with one item a line, and the number of items."""
    path, count = store.aside(".jsonl"), 0

    def lines() -> Iterator[str]:
        nonlocal count
        for item in items:
            count += 1
            yield _line(item)

    _write(path, lines())
    return path, count


def _line(value: Any) -> str:
    # ASCII, so that no separator of lines stands inside one.
    return json.dumps(value, separators=(",", ":")) + "\n"


def _write(path: Path, lines: Iterable[str]) -> None:
    aside = store.aside()
    try:
        with aside.open("w") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
