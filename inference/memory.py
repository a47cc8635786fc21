"""The memory of models: what one takes once it is loaded, and what all may take."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
from django.conf import settings

from inference.entries import Facts
from registry.errors import Problem

SHARE = 0.5  # of the worker's memory, or of its GPU's free memory, for loaded models
STATUS = Path("/proc/self/status")
GROUP = Path("/sys/fs/cgroup")
ARENA_MAX = -8  # the name of that number for mallopt
ARENAS = 2
COLLECT_EVERY = 20_000  # containers more than there were, for the garbage collector
SPARE = 2 * 1024**3  # bytes that libraries and the stacks of threads reserve
GPU_DRIVER = Path("/dev/nvidiactl")  # it maps far more than it uses

Activity = tuple[int, int]  # batches at work with other models; batches ever


def share_arenas() -> None:
    """Have all threads of this process take memory from few arenas.

    glibc gives a thread one of its own, up to eight a core, and each keeps what was freed in it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(ARENA_MAX, ARENAS)


class Gauge:
    """Bytes of models: how far a load raises `meter`, if nothing else ran meanwhile.

    The first load of a recipe on an engine also imports libraries, so it is not measured.
    """

    def __init__(self, meter: Callable[[], int]) -> None:
        self._meter = meter
        self._seen: set[tuple[str, str]] = set()
        self._known: dict[tuple[str, str], int] = {}

    def begin(self, activity: Activity) -> tuple[int, Activity]:
        return self._meter(), activity

    def end(self, began: tuple[int, Activity], now: Activity, facts: Facts) -> int:
        """The bytes that the load took; 0 if they cannot be told from those of others."""
        before, activity = began
        kind = facts.recipe, facts.engine
        is_first = kind not in self._seen
        self._seen.add(kind)
        was_alone = activity == now and activity[0] == 0
        return max(0, self._meter() - before) if was_alone and not is_first else 0

    def remember(self, facts: Facts, nbytes: int) -> None:
        self._known[facts.makes] = nbytes

    def expected(self, facts: Facts) -> int:
        """The bytes of an earlier load, else those of the version's files."""
        return self._known.get(facts.makes, facts.size)


def hold_to_share() -> None:
    """Keep this process to its share of the machine's memory, where there is no GPU."""
    if not GPU_DRIVER.exists():
        share = settings.ENVIRONMENT.memory // settings.ENVIRONMENT.inference_workers
        hold(share + SPARE)


def hold(most: int) -> None:
    """Have the kernel refuse so many bytes more than there are now: who asks for them fails alone."""
    limit = told("VmData:") + most
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def anonymous() -> int:
    """Bytes of this process that belong to no file; 0 where the kernel does not tell."""
    return told("RssAnon:")


def told(name: str) -> int:
    """Bytes that the kernel tells of this process under that name, or 0."""
    try:
        for line in STATUS.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


def free() -> int:
    """Bytes that more processes may take here: of the machine, within the control group's limit."""
    found = int(psutil.virtual_memory().available)
    try:
        most, taken = (
            int((GROUP / name).read_text()) for name in ("memory.max", "memory.current")
        )
    except (OSError, ValueError):
        return found  # none is set, or this is another kind of control group
    return min(found, most - taken)


def budget() -> int:
    """Bytes that loaded models may take on the device that they are loaded to.

    The inference workers of a machine share it.
    """
    share = SHARE / settings.ENVIRONMENT.inference_workers
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        return int((free + torch.cuda.memory_allocated()) * share)
    return int(settings.ENVIRONMENT.memory * share)


def too_large(facts: Facts, needed: int, budget: int) -> Problem:
    text = f"The model {facts.address} needs {needed} bytes of memory; this worker's models may have {budget}."
    return Problem("model_too_large", text)
