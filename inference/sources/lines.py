"""Sources of one record a line, or a few: what they have in common, SMILES, FASTA."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from inference.sources import Record, Records, Tick, together
from inference.sources.marks import Marks

BOM = b"\xef\xbb\xbf"
NOTHING: Mapping[str, Any] = {}
LINES = 64 * 1024  # between two looks at the wishes


class Lines:
    """A file of records that begin at a line; what each is, the subclass says."""

    columns: tuple[str, ...] | None = None
    delimiter = ","

    def __init__(
        self,
        path: Path,
        home: Path,
        common: Mapping[str, Any] = NOTHING,
        name: str = "marks",
    ) -> None:
        self.path, self.common = path, common
        self.marks = Marks(home / f"{name}.npy")

    def prepare(self, every: int, tick: Tick) -> int:
        if not self.marks.exist():
            count = itertools.count()
            self.marks.write(every, self._offsets(every, count, tick), count.__next__)
        return self.marks.count

    def read(self, first: int, count: int) -> Iterator[Records]:
        return together(self.each(first, count))

    def each(self, first: int, count: int) -> Iterator[Record]:
        """These records one by one."""
        offset, record = self.marks.before(first)
        with self.path.open("rb") as file:
            file.seek(offset)
            found = self._records(file)
            yield from itertools.islice(found, first - record, first - record + count)

    def head(self, count: int | None) -> Iterator[Record]:
        with self.path.open("rb") as file:
            if file.read(len(BOM)) != BOM:
                file.seek(0)
            yield from itertools.islice(self._records(file), count)

    def shown(self, raw: Any, item: Any) -> Any:
        return dict(zip(self.columns or (), raw, strict=True))

    def cells(self, raw: Any, item: Any) -> list[Any]:
        return list(raw)

    def begins(self, line: bytes) -> bool:
        """Whether a record begins with that line."""
        return not line.isspace()

    def _offsets(self, every: int, count: Iterator[int], tick: Tick) -> Iterator[int]:
        offset, wanted, begins = 0, 0, self.begins
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                if number % LINES == 0:
                    tick()
                if offset == 0 and line.startswith(BOM):
                    offset, line = len(BOM), line[len(BOM) :]
                if begins(line):
                    if wanted == 0:
                        yield offset
                        wanted = every
                    wanted -= 1
                    next(count)
                offset += len(line)

    def _records(self, file: IO[bytes]) -> Iterator[Record]:
        raise NotImplementedError


class Smiles(Lines):
    """A SMILES a line, and perhaps its name behind white space; lines with # are comments."""

    columns = ("id", "smiles")

    def __init__(
        self,
        path: Path,
        home: Path,
        field: str,
        common: Mapping[str, Any] = NOTHING,
    ) -> None:
        super().__init__(path, home, common)
        self.field = field

    def begins(self, line: bytes) -> bool:
        return not line.isspace() and not line.startswith(b"#")

    def _records(self, file: IO[bytes]) -> Iterator[Record]:
        for line in file:
            if self.begins(line):
                smiles, _, name = _split(line.decode(errors="replace"))
                yield (name, smiles), {**self.common, self.field: smiles}


class Fasta(Lines):
    """Sequences under lines that begin with > and a name."""

    columns = ("id", "sequence")

    def __init__(
        self,
        path: Path,
        home: Path,
        field: str,
        common: Mapping[str, Any] = NOTHING,
        name: str = "marks",
    ) -> None:
        super().__init__(path, home, common, name)
        self.field = field

    def begins(self, line: bytes) -> bool:
        return line.startswith(b">")

    def _records(self, file: IO[bytes]) -> Iterator[Record]:
        name: str | None = None
        parts: list[str] = []
        for line in itertools.chain(file, (b">",)):
            text = line.decode(errors="replace").strip()
            if not text.startswith(">"):
                parts.append("".join(text.split()))
                continue
            if name is not None:
                sequence = "".join(parts)
                yield (name, sequence), {**self.common, self.field: sequence}
            name, parts = _split(text[1:])[0], []


def _split(line: str) -> tuple[str, str, str]:
    """The first word, what parts it from the rest, and the rest."""
    words = line.split(None, 1)
    first, rest = (*words, "", "")[:2]
    return first, " ", rest.strip()
