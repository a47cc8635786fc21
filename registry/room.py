"""What a host must have left before work is begun on it."""

from __future__ import annotations

import os
import shutil

import psutil
from django.conf import settings

from registry.resources import GIB

DISK = int(0.2 * GIB)  # bytes that must be free in the data directory
MEMORY = int(0.2 * GIB)  # bytes that the system must have to give
LOAD = 32  # runnable processes for each CPU, on the average of a minute


def shortage() -> str:
    """What this host has too little of, said of it; empty if it has enough."""
    disk = free_disk()
    if disk < DISK:
        return f"has {disk / GIB:.2f} GiB of disk left"
    memory = free_memory()
    if memory < MEMORY:
        return f"has {memory / GIB:.2f} GiB of memory left"
    load, cpus = os.getloadavg()[0], os.cpu_count() or 1
    if load > LOAD * cpus:
        return f"has a load of {load:.0f} on {cpus} CPUs"
    return ""


def free_disk() -> int:
    """Bytes left where the data directory is, or will be once it is made."""
    path = settings.DATA_DIR
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def free_memory() -> int:
    """Bytes that the host can give without swapping."""
    return int(psutil.virtual_memory().available)
