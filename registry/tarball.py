"""A directory of files as a tar stream of known size, in constant memory."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from registry.store import CHUNK

BLOCK = tarfile.BLOCKSIZE


class Tarball:
    """Yields the archive's bytes once; `size` is their number. The comment stands in its header.

    The files are opened at once, so that a deletion does not cut the stream. The same files
    give the same bytes. Raises OSError if a file cannot be opened.
    """

    def __init__(self, directory: Path, label: str, comment: str = "") -> None:
        self._files: list[tuple[bytes, int, BinaryIO]] = []
        self._comment = b""
        if comment:
            about = {"comment": comment}
            self._comment = tarfile.TarInfo.create_pax_global_header(about)
        self.size = len(self._comment) + 2 * BLOCK
        try:
            for path in sorted(one for one in directory.iterdir() if one.is_file()):
                file = path.open("rb")
                size = path.stat().st_size
                member = tarfile.TarInfo(f"{label}/{path.name}")
                member.size = size
                head = member.tobuf(tarfile.GNU_FORMAT)
                self._files.append((head, size, file))
                self.size += len(head) + size + -size % BLOCK
        except OSError:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield self._comment
            for head, size, file in self._files:
                yield head
                while piece := file.read(CHUNK):
                    yield piece
                yield b"\0" * (-size % BLOCK)
            yield b"\0" * (2 * BLOCK)
        finally:
            self.close()

    def close(self) -> None:
        for _, _, file in self._files:
            file.close()
