"""The environment of a script: nothing of Compass's own, and the words that scripts know."""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OURS = ("COMPASS_", "SLURM_")  # names that no user may set
ENV_START, ENV_END = 49, 50  # fields of /proc/PID/stat, from 0


def build(spec: Mapping[str, Any], outer: Mapping[str, str]) -> dict[str, str]:
    """Of `outer` the few kept names, then the user's `env`, then what Compass says."""
    kept = {name: outer[name] for name in KEPT if outer.get(name)}
    base = {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "SHELL": "/bin/bash",
        "HOME": spec["scratch"],
        "TMPDIR": spec["scratch"],
        "OMP_NUM_THREADS": str(spec["cpus"]),
        **_user(),
    }
    return {**base, **kept, **spec["env"], **spec["environment"]}


def words(spec: Mapping[str, Any]) -> dict[str, str]:
    """What a script may ask about its task, in Compass's words and in Slurm's."""
    task, attempt, cpus = str(spec["task"]), spec["attempt"], str(spec["cpus"])
    gpus = ",".join(str(index) for index in spec["gpus"])
    found = {
        "COMPASS_TASK_ID": task,
        "COMPASS_ATTEMPT": str(attempt),
        "COMPASS_CPUS": cpus,
        "COMPASS_MEMORY": str(spec["memory"]),
        "COMPASS_GPUS": gpus,
        "COMPASS_JOB": f"{task}-{attempt}",
        "CUDA_VISIBLE_DEVICES": gpus,
        "SLURM_JOB_ID": task,
        "SLURM_JOBID": task,
        "SLURM_JOB_NAME": spec["name"],
        "SLURM_JOB_PARTITION": spec["lane"],
        "SLURM_JOB_NODELIST": spec["host"],
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NNODES": "1",
        "SLURM_NTASKS": "1",
        "SLURM_PROCID": "0",
        "SLURM_NODENAME": spec["host"],
        "SLURMD_NODENAME": spec["host"],
        "SLURM_CPUS_PER_TASK": cpus,
        "SLURM_CPUS_ON_NODE": cpus,
        "SLURM_RESTART_COUNT": str(attempt - 1),
        "SLURM_SUBMIT_DIR": spec["work"],
    }
    if spec["memory"]:
        found["SLURM_MEM_PER_NODE"] = str(spec["memory"] // 1024**2)
    if array := spec.get("array"):
        found |= {
            "COMPASS_ARRAY_ID": str(array["id"]),
            "COMPASS_ARRAY_INDEX": str(array["index"]),
            "SLURM_ARRAY_JOB_ID": str(array["id"]),
            "SLURM_ARRAY_TASK_ID": str(array["index"]),
            "SLURM_ARRAY_TASK_COUNT": str(array["size"]),
            "SLURM_ARRAY_TASK_MIN": str(array["first"]),
            "SLURM_ARRAY_TASK_MAX": str(array["last"]),
        }
    return found


def forget_own() -> None:
    """Empty this process's environment, which holds secrets, and what /proc shows of it."""
    for name in list(os.environ):
        del os.environ[name]
    _empty_room()


def hide_own() -> None:
    """Keep this process's environment, but not where /proc/PID/environ shows it to scripts."""
    for name, value in os.environ.items():
        os.environ[name] = value  # the C library has its own copy from now on
    _empty_room()


def _empty_room() -> None:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = (int(fields[field - 2]) for field in (ENV_START, ENV_END))
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)


def _user() -> dict[str, str]:
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return {"USER": name, "LOGNAME": name}
