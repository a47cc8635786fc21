"""Where the shards of a file of results end, as far as they are on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

UNKNOWN = -1  # failed items of a shard that another worker wrote; the database knows


@dataclass(frozen=True)
class End:
    """The end of a shard in bytes from the beginning of the file, and its failed items."""

    end: int
    failed: int = UNKNOWN


class Ends:
    """A line for each shard from the first on; a line that is not whole ends them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, first: int, some: list[End]) -> None:
        """Note the shards from the number `first` on."""
        lines = (f"{n} {one.end} {one.failed}\n" for n, one in enumerate(some, first))
        with self.path.open("a") as file:
            file.write("".join(lines))

    def read(self, size: int) -> list[End]:
        """Those that lie within so many bytes."""
        found: list[End] = []
        for line in self.path.read_bytes().split(b"\n")[:-1]:
            try:
                number, end, failed = map(int, line.split(b" "))
            except ValueError:
                break
            last = found[-1].end if found else 0
            if number != len(found) or not last <= end <= size:
                break
            found.append(End(end, failed))
        return found
