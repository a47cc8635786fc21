"""Memory for what large requests hold in the front until they are answered."""

from __future__ import annotations

LARGE = 64 * 1024  # bytes; what is smaller is not counted
MOST = 128 * 1024**2  # bytes of all large requests together


class Room:
    def __init__(self, most: int = MOST) -> None:
        self.left = most

    def take(self, size: int) -> int:
        """The bytes taken: all, or none where there is not as much."""
        if size > self.left:
            return 0
        self.left -= size
        return size

    def give_back(self, size: int) -> None:
        self.left += size
