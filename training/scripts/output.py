"""What a script writes: to its own two files, and in the order it comes to the task's log."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fcntl import F_SETPIPE_SZ, fcntl
from pathlib import Path
from typing import Any

from registry import jail

PIECE = 256 * 1024  # bytes read at once
PIPE = 1024 * 1024  # bytes that a pipe holds, where the kernel allows it
FULL = "\n[Compass: this file holds {size:,} bytes; what follows is not kept.]\n"


class Sink:
    """A file that takes bytes up to a limit, 0 for none; beyond it they are counted."""

    def __init__(self, descriptor: int, limit: int) -> None:
        self._descriptor, self._limit = descriptor, limit
        self._size = os.fstat(descriptor).st_size
        self._is_full = False
        self.dropped = 0  # bytes

    def take(self, piece: bytes) -> None:
        room = max(0, self._limit - self._size) if self._limit else len(piece)
        kept = 0 if self._is_full else self._write(piece[:room])
        self._size += kept
        self.dropped += len(piece) - kept
        if self._limit and kept < len(piece) and not self._is_full:
            self._is_full = True
            self._write(FULL.format(size=self._size).encode())

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self, piece: bytes) -> int:
        """How many bytes were written; a full disk takes none, and stops nobody."""
        done = 0
        try:
            while done < len(piece):
                done += os.write(self._descriptor, piece[done:])
        except OSError:
            pass
        return done


class Output:
    """The pipes that a script writes into and the files behind them.

    `spec` names the files inside `work`; if both have one name, they share one pipe. Raises
    OSError or ValueError where a name cannot be used.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        work, limit = Path(spec["work"]), spec["log_limit"]
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self.log = Sink(os.open(spec["log"], flags, 0o640), limit)
        self._sinks = {self.log}
        self._behind: dict[int, Sink] = {}  # the reading end of a pipe, and its file
        self._ends: dict[str, int] = {}  # the writing ends by name
        for name in (spec["stdout"], spec["stderr"]):
            if name in self._ends:
                continue
            # A file that the user named is held by the limit of the directory.
            own = Sink(jail.create(work, name), 0 if name in spec["named"] else limit)
            reading, writing = os.pipe()
            os.set_blocking(reading, False)
            try:
                fcntl(writing, F_SETPIPE_SZ, PIPE)
            except OSError:
                pass
            self._behind[reading], self._ends[name] = own, writing
            self._sinks.add(own)
        self.stdout = self._ends[spec["stdout"]]
        self.stderr = self._ends[spec["stderr"]]

    @property
    def sources(self) -> list[int]:
        return list(self._behind)

    def close_ends(self) -> None:
        """The script has them now."""
        for end in self._ends.values():
            os.close(end)

    def read(self, source: int) -> bool:
        """Move one piece on; False if there is none, and at the end."""
        try:
            piece = os.read(source, PIECE)
        except BlockingIOError:
            return False
        if piece:
            self._behind[source].take(piece)
            self.log.take(piece)
            return True
        self._behind.pop(source)
        os.close(source)
        return False

    def drain(self) -> None:
        """Move on what is left, once nobody writes any more."""
        for source in self.sources:
            while self.read(source):
                pass

    def note(self, text: str) -> None:
        self.log.take(f"[Compass: {text}]\n".encode())

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
