"""The forms in which results are written: JSON lines, CSV, Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from inference.forms import Form
from inference.sources import Source

FORMATS = ("jsonl", "csv", "parquet")
OUTPUT = "output"  # holds all of an answer where the signature names no outputs
ROW, RANK, SUCCESS = "row", "rank", "success"
ERROR, DETAIL = "error", "detail"


@dataclass(frozen=True)
class Results:
    """Some results in order; rows count from 1, ranks are there in a best-of list only."""

    rows: Sequence[int]
    raws: Sequence[Any]
    items: Sequence[Any]
    answers: Sequence[Mapping[str, Any]]
    ranks: Sequence[int] | None = None

    def part(self, some: slice) -> Results:
        ranks = None if self.ranks is None else self.ranks[some]
        return Results(
            self.rows[some],
            self.raws[some],
            self.items[some],
            self.answers[some],
            ranks,
        )


class Part(Protocol):
    """One file of results that is being written, perhaps in a thread; `close` puts it on the
    disk, `drop` gives it up."""

    def put(self, piece: Any) -> None: ...

    def close(self) -> None: ...

    def drop(self) -> None: ...


class Whole(Protocol):
    """All results, as they come together."""

    def append(self, part: Path) -> None: ...

    def close(self) -> None: ...

    def drop(self) -> None: ...


class Sink(Protocol):
    """Writes results in one format."""

    suffix: str

    def piece(self, results: Results) -> Any:
        """The results made ready for `put`."""

    def part(self, path: Path) -> Part:
        """A file of pieces without a head."""

    def whole(self, path: Path) -> Whole:
        """A file of parts in order, with a head."""


@dataclass(frozen=True)
class Layout:
    """The columns of results in a table, no two of one name.

    `given` are the item's; an output of a name that is taken is `predicted_NAME`.
    """

    given: tuple[str, ...]
    outputs: Mapping[str, Any]  # schemas by the name in an answer; empty if not named
    is_ranked: bool
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        taken = set(self.given)

        def free(name: str) -> str:
            while name in taken:
                name = f"predicted_{name}"
            taken.add(name)
            return name

        before = [free(one) for one in ([RANK] if self.is_ranked else []) + [ROW]]
        after = [free(SUCCESS)]
        after += [free(one) for one in self.outputs or (OUTPUT,)]
        after += [free(ERROR), free(DETAIL)]
        object.__setattr__(self, "names", (*before, *self.given, *after))


def open_sink(
    source: Source, form: Form, params: Mapping[str, Any], outputs: Mapping[str, Any]
) -> Sink:
    """The sink that a task's parameters name; `outputs` is the schema of an answer.

    The source is asked for its columns once there are results, when it is prepared.
    """
    name, is_ranked = params.get("format") or "jsonl", bool(params.get("top"))
    if name == "jsonl":
        from inference.sinks.jsonl import JsonLines

        return JsonLines(source, form)

    def lay_out() -> Layout:
        given = ("input",) if source.columns is None else source.columns
        return Layout(given, outputs.get("properties") or {}, is_ranked)

    if name == "csv":
        from inference.sinks.table import Csv

        return Csv(source, lay_out)
    from inference.sinks.arrow import Parquet

    return Parquet(source, lay_out)
