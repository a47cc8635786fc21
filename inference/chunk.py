"""Some items of a shard on their way through the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MOST_PIECES = 16  # pieces of a chunk, so that it is small where the items are large


@dataclass
class Chunk:
    """Encoded items, with what their results tell of them.

    Items are encoded piece by piece, while they are in the processor's cache, and dropped.
    """

    raws: list[Any] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)
    encoded: list[Any] = field(default_factory=list)  # by pieces
    seconds: float = 0.0  # that encoding took

    def __len__(self) -> int:
        return len(self.raws)

    def add(
        self, raws: list[Any], kept: list[Any], encoded: Any, seconds: float
    ) -> None:
        self.raws += raws
        self.kept += kept
        self.encoded.append(encoded)
        self.seconds += seconds

    def is_full(self, most: int) -> bool:
        return len(self.raws) >= most or len(self.encoded) >= MOST_PIECES
