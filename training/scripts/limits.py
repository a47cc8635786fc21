"""What a script may take of memory and disk, looked at while it runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from registry.resources import GIB
from training.scripts import tree
from training.scripts.groups import Group

FREE_DISK = 0.2 * GIB  # bytes that must stay free, or a twentieth of a small disk
TAKEN = 1024**2  # bytes from which on a full disk is this script's doing
REST = 20  # times as long as a walk over the files took, until the next
MEMORY_EVERY = 0.1  # seconds
DISK_EVERY = 0.5

Verdict = tuple[str, str]  # a reason and a sentence


class Limits:
    """Looks at most as often as each look is worth."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        group: Group | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory, self._disk = spec["memory"], spec["disk_limit"]
        self._home, self._group, self._monotonic = Path(spec["home"]), group, monotonic
        self._at_start = _size(self._home)
        self._free_at_start = _free(self._home)[0]
        self._next = {"memory": 0.0, "disk": 0.0}
        self.peak = 0  # bytes

    def look(self) -> Verdict | None:
        """What it has taken too much of, if anything."""
        return self._look_at_memory() or self._look_at_disk()

    def came_to_its_memory(self) -> Verdict | None:
        """Whether it needed more than the limit of its group."""
        if self._group is None or not self._group.is_out_of_memory():
            return None
        return self._out_of_memory(self._memory)

    def _look_at_memory(self) -> Verdict | None:
        now = self._monotonic()
        if now < self._next["memory"]:
            return None
        self._next["memory"] = now + MEMORY_EVERY
        if verdict := self.came_to_its_memory():
            return verdict
        used = tree.resident(tree.descendants(os.getpid()), self._memory)
        self.peak = max(self.peak, used)
        is_held = self._group is not None and self._group.holds_memory
        if not self._memory or is_held or used <= self._memory:
            return None
        return self._out_of_memory(used)

    def _look_at_disk(self) -> Verdict | None:
        began = self._monotonic()
        if began < self._next["disk"]:
            return None
        used = max(0, _size(self._home) - self._at_start)
        free, total = _free(self._home)
        after = self._monotonic()
        self._next["disk"] = after + max(DISK_EVERY, REST * (after - began))
        if self._disk and used > self._disk:
            text = (
                f"Its directory took {_shown(used)}; the limit is {_shown(self._disk)}."
            )
            return "disk_full", text
        floor = min(FREE_DISK, total / 20)
        is_guilty = used > TAKEN or self._free_at_start - free > floor
        if free < floor and is_guilty:
            text = (
                f"The disk has {_shown(free)} left; its directory took {_shown(used)}."
            )
            return "disk_full", text
        return None

    def _out_of_memory(self, used: int) -> Verdict:
        self.peak = max(self.peak, used)
        asked = _shown(self._memory)
        text = f"It needed more memory than the {asked} that it asked for"
        if used > self._memory:
            text = f"It took {_shown(used)} of memory; it asked for {asked}"
        return "out_of_memory", f"{text}."


def _size(directory: Path) -> int:
    """Bytes on disk of all that is in it; what goes meanwhile counts no more."""
    total, line = 0, [str(directory)]
    while line:
        try:
            with os.scandir(line.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        line.append(entry.path)
        except OSError:
            continue
    return total


def _free(directory: Path) -> tuple[int, int]:
    """Bytes that are free on its disk, and that there are in all; the script may have removed it."""
    while not directory.exists():
        directory = directory.parent
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def _shown(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 1024**2:.1f} MiB"
