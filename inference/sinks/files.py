"""Files of bytes: written in pieces, then put behind each other."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from registry import store

# What a file system answers that cannot copy within itself.
CANNOT = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}
COPIED_AT_ONCE = 32 * 1024**2  # bytes


class Bytes:
    """A file of pieces of bytes."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")

    def put(self, piece: Iterable[bytes]) -> None:
        self.file.writelines(piece)

    def close(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

    def drop(self) -> None:
        self.file.close()


class Joined:
    """A file of pieces and of other files behind a head, copied by the kernel where it can."""

    def __init__(self, path: Path, head: bytes = b"") -> None:
        self.file = path.open("wb", buffering=0)
        try:
            self.put([head])
        except BaseException:
            self.file.close()
            raise

    def put(self, piece: Iterable[bytes]) -> None:
        for some in piece:
            left = memoryview(some)
            while left:
                left = left[self.file.write(left) :]

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.file.tell()

    def append(self, part: Path) -> None:
        with part.open("rb", buffering=0) as source:
            self._copy(source, os.fstat(source.fileno()).st_size)

    def begin_with(self, other: Path, size: int, tick: Callable[[], object]) -> None:
        """Have the first bytes of another file instead of what it has."""
        self.cut(0)
        with other.open("rb", buffering=0) as source:
            while left := size - self.size:
                tick()
                self._copy(source, min(left, COPIED_AT_ONCE))

    def cut(self, size: int) -> None:
        """Drop what stands behind these bytes."""
        self.file.truncate(size)
        self.file.seek(size)

    def sync(self) -> None:
        """Have on the disk what was written before; another thread may go on writing."""
        os.fdatasync(self.file.fileno())

    def close(self) -> None:
        os.fsync(self.file.fileno())
        self.file.close()

    def drop(self) -> None:
        self.file.close()

    def _copy(self, source: IO[bytes], count: int) -> None:
        """So many of the next bytes of the source. Raises OSError if it has fewer."""
        target, left = self.file, count
        try:
            while left > 0:
                copied = os.copy_file_range(source.fileno(), target.fileno(), left)
                if copied == 0:
                    break
                left -= copied
        except OSError as error:
            if error.errno not in CANNOT:
                raise
        while left > 0:
            some = source.read(min(left, store.CHUNK))
            if not some:
                raise OSError(errno.EIO, "a file of results is shorter than it was")
            self.put([some])
            left -= len(some)
