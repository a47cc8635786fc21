"""Imports that every training needs, made once in the warm process before any job forks.

The first optimizer step imports `torch._dynamo`, 1.5 s when cold. The code that the imports ran
through, about 80 MB, is not kept in memory: what a job needs comes back from the file.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import linecache
import signal

import psutil
import torch  # noqa: F401

from training.scripts import environment

MODULES = ("torch._dynamo", "training.trainer", "training.recipes.affinity.fit")

MADV_DONTNEED = 4


def release_code() -> None:
    """Unmap every page of code that is as it is in its file; the next use maps it again."""
    libc = ctypes.CDLL(None)
    for part in psutil.Process().memory_maps(grouped=False):
        # A page that was written to is anonymous, and would not come back.
        if part.perms != "r-xp" or part.anonymous or not part.path.startswith("/"):
            continue
        start, end = (int(number, 16) for number in part.addr.split("-"))
        libc.madvise(
            ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED
        )


# Whoever stops a service may signal all its processes at once. The jobs die with this one, which
# must therefore outlive the signal until they have left checkpoints; it ends with the worker.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for name in MODULES:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
linecache.clearcache()  # torch reads its own sources meanwhile
# Collections in a job neither search all this again nor copy its pages by touching them.
gc.collect()
gc.freeze()
ctypes.CDLL(None).malloc_trim(0)
release_code()
environment.hide_own()
