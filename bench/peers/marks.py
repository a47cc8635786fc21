"""Each task of a peer leaves the time at which it began in one file, and costs nothing else.

Imported by the peers' own interpreter too, so it needs nothing but Python.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

SIZE = 8  # bytes of a mark


def mark(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, struct.pack("d", time.time()))
    os.close(descriptor)


def wait(path: Path, count: int, seconds: float = 120.0) -> list[float]:
    """The times of so many marks, once they are there."""
    deadline = time.monotonic() + seconds
    while not path.exists() or path.stat().st_size < count * SIZE:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path.name} has not {count} marks")
        time.sleep(0.002)
    return sorted(one for (one,) in struct.iter_unpack("d", path.read_bytes()))


def measure(send, folder: Path, count: int, alone: int) -> dict[str, object]:  # type: ignore[no-untyped-def]
    """What `send` (path) of one task reaches: a second, and how long one alone waits."""
    warm = folder / "warm"
    for _ in range(20):
        send(str(warm))
    wait(warm, 20)
    waits = []
    for number in range(alone):
        path = folder / f"alone-{number}"
        began = time.time()
        send(str(path))
        waits.append((wait(path, 1)[0] - began) * 1000)
        time.sleep(0.02)
    path, began = folder / "many", time.time()
    for _ in range(count):
        send(str(path))
    sent = time.time() - began
    last = wait(path, count)[-1]
    return {"rate": count / (last - began), "send_rate": count / sent, "waits": waits}
