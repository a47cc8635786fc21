"""Turns that all processes of a machine take: what takes much memory is done by few at once."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings

LOOK_EVERY = 0.05  # seconds


@contextmanager
def turn(
    name: str,
    most: int,
    *,
    seconds: float | None = None,
    tick: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Be one of `most` that are within; the kernel takes the turn back from one that dies.

    `tick` is called while others are waited for. Raises TimeoutError after so many seconds.
    """
    folder, host = settings.DATA_DIR / "turns", settings.ENVIRONMENT.node_name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    end = None if seconds is None else time.monotonic() + seconds
    paths = [str(folder / f"{name}@{host}.{number}") for number in range(1, most + 1)]
    while (taken := _first_free(paths)) is None:
        if end is not None and time.monotonic() > end:
            raise TimeoutError(f"no turn of {name}")
        tick()
        time.sleep(LOOK_EVERY)
    try:
        yield
    finally:
        os.close(taken)


def _first_free(paths: list[str]) -> int | None:
    for path in paths:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
        else:
            return file
    return None
