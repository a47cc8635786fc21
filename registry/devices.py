"""The GPUs of this host, behind an inventory that tests and demonstrations may replace."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol, TypedDict

from django.conf import settings

from registry import nvidia, plain
from registry.resources import GIB

log = logging.getLogger(__name__)

FAKE = "COMPASS_FAKE_GPUS"


class User(TypedDict):
    """A process that computes on a GPU; `memory` in bytes."""

    pid: int
    user: str
    name: str
    memory: int


class Gpu(TypedDict):
    """What a look found of one GPU; `memory` and `free` in bytes."""

    index: int
    name: str
    uuid: str
    memory: int
    free: int
    processes: list[User]


class Inventory(Protocol):
    """Looks at the GPUs of this host. Raises OSError if they cannot be looked at."""

    def gpus(self) -> list[Gpu]: ...


class Fake:
    """GPUs that a JSON file tells of, read again at each look; each has an index at least."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def gpus(self) -> list[Gpu]:
        try:
            told = json.loads(self.path.read_text())
            return [_whole(one) for one in told]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise OSError(f"{FAKE}: {self.path} tells of no GPUs: {error!r}") from error


class NoGpus:
    """A host without GPUs."""

    def gpus(self) -> list[Gpu]:
        return []


def inventory() -> Inventory:
    """The fake if one is set, else NVIDIA's library or command, whichever there is."""
    if path := settings.ENVIRONMENT.fake_gpus:
        return Fake(Path(path))
    for found in (nvidia.Library, nvidia.Command):
        if found.is_there():
            return found()
    return NoGpus()


def gpus() -> list[Gpu]:
    """One look at the GPUs of this host; none if they cannot be looked at."""
    try:
        return inventory().gpus()
    except OSError as error:
        log.warning("The GPUs could not be looked at: %s", error)
        return []


def torch_device(indexes: Collection[int]) -> str:
    """Where a job with these GPUs computes; a fake one has nothing to compute with."""
    return "cuda" if indexes and not settings.ENVIRONMENT.fake_gpus else "cpu"


class Watch:
    """What a node tells of its GPUs: each with a sentence while somebody else uses it."""

    def __init__(
        self, inventory: Inventory, own: Callable[[], Collection[int]]
    ) -> None:
        self._inventory, self._own = inventory, own
        self._latest: list[dict[str, Any]] = []

    def look(self) -> list[dict[str, Any]]:
        """The GPUs now; as they were at the last look if they cannot be looked at."""
        try:
            found = self._inventory.gpus()
        except OSError as error:
            log.warning("The GPUs could not be looked at: %s", error)
            return self._latest
        # After the GPUs: what begins in between must not count as somebody else's.
        own = set(self._own()) if any(gpu["processes"] for gpu in found) else set()
        self._latest = [
            {
                "index": gpu["index"],
                "name": plain.text(gpu["name"]),
                "uuid": plain.text(gpu["uuid"]),
                "memory": gpu["memory"],
                "free": gpu["free"],
                "busy": busy(gpu, own),
            }
            for gpu in found
        ]
        return self._latest


def busy(gpu: Gpu, own: Collection[int]) -> str:
    """Who outside Compass uses it, as a sentence; empty if nobody does."""
    others = [one for one in gpu["processes"] if one["pid"] not in own]
    if not others:
        return ""
    others.sort(key=lambda one: (-one["memory"], one["pid"]))
    first = others[0]
    facts = [first["user"], first["name"], f"{first['memory'] / GIB:.1f} GiB"]
    text = f"process {first['pid']} ({', '.join(filter(None, facts))})"
    if more := len(others) - 1:
        text += f" and {more} more"
    # The kernel lets a process call itself by bytes that are no text.
    return plain.text(f"GPU {gpu['index']} is used by {text} outside Compass.")


def _whole(told: Any) -> Gpu:
    memory = int(told.get("memory", 16 * GIB))
    processes: list[User] = [
        {
            "pid": int(one["pid"]),
            "user": str(one.get("user", "")),
            "name": str(one.get("name", "")),
            "memory": int(one.get("memory", 0)),
        }
        for one in told.get("processes", ())
    ]
    used = sum(one["memory"] for one in processes)
    return {
        "index": int(told["index"]),
        "name": str(told.get("name", "Fake GPU")),
        "uuid": str(told.get("uuid", "")),
        "memory": memory,
        "free": int(told.get("free", max(memory - used, 0))),
        "processes": processes,
    }
