"""Files of bytes: written in pieces, then put behind each other."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

# What a file system answers that cannot copy within itself.
CANNOT = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}


SYNC_EVERY = 32 * 1024**2  # bytes, so that little is left to be waited for at the end


class Bytes:
    """A file of pieces of bytes, or of many at once, each made when the one before is written."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")

    def put(self, piece: bytes | Iterator[bytes]) -> None:
        self.file.writelines([piece] if isinstance(piece, bytes) else piece)

    def close(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

    def drop(self) -> None:
        self.file.close()


class Joined(Bytes):
    """A file of other files behind a head, copied by the kernel where it can."""

    def __init__(self, path: Path, head: bytes = b"") -> None:
        super().__init__(path)
        if head:
            self.put(head)
            self.file.flush()
        self._unsynced = 0

    def append(self, part: Path) -> None:
        with part.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            self._copy(source, size)
        self._unsynced += size
        if self._unsynced > SYNC_EVERY:
            os.fdatasync(self.file.fileno())
            self._unsynced = 0

    def _copy(self, source: IO[bytes], left: int) -> None:
        target = self.file
        try:
            while left > 0:
                copied = os.copy_file_range(source.fileno(), target.fileno(), left)
                if copied == 0:
                    break
                left -= copied
        except OSError as error:
            if error.errno not in CANNOT:
                raise
        source.seek(-left, os.SEEK_END)
        target.seek(0, os.SEEK_END)
        shutil.copyfileobj(source, target)
        target.flush()
