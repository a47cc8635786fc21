"""The script's own process: /bin/bash in a session of its own."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.forks import die_with_parent
from training.processes import libc
from training.scripts.groups import Group
from training.scripts.output import Output

BASH = "/bin/bash"
PR_SET_CHILD_SUBREAPER = 36
OOM_SCORE = "500"  # of 1000: the kernel ends scripts before anything of Compass
BECOMING = 1.0  # seconds at most from fork to exec
CANNOT_RUN = 126  # the shell's own code for it


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(
    spec: Mapping[str, Any],
    environment: Mapping[str, str],
    output: Output,
    group: Group | None,
) -> int:
    """Fork and run the script; its pid. The caller must have a single thread.

    Returns once the shell stands in the place of the copy of the caller, whose memory would
    be taken for the script's.
    """
    parent = os.getpid()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        output.close_ends()
        select.select([reading], [], [], BECOMING)  # at its end when exec closes it
        os.close(reading)
        return pid
    try:
        _become(spec, output, group, parent, writing)
        words = [BASH, *spec["options"], spec["script"]]
        os.execve(BASH, words, dict(environment))  # noqa: S606
    except BaseException as error:
        os.write(2, f"{BASH} cannot be started: {error}\n".encode())
    finally:
        os._exit(CANNOT_RUN)


def _become(
    spec: Mapping[str, Any],
    output: Output,
    group: Group | None,
    parent: int,
    until_exec: int,
) -> None:
    os.setsid()
    die_with_parent(parent)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output.stdout, 1)
    os.dup2(output.stderr, 2)
    if until_exec != 3:
        os.dup2(until_exec, 3, inheritable=False)
    os.closerange(4, _highest_descriptor() + 1)
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP) and number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if group is not None:
        group.join()
    if affinity := set(spec["affinity"]) & os.sched_getaffinity(0):
        os.sched_setaffinity(0, affinity)
    try:
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    except OSError:
        pass
    os.umask(0o027)
    os.chdir(spec["work"])


_SIGNALS = signal.valid_signals()


def _highest_descriptor() -> int:
    return max((int(name) for name in os.listdir("/proc/self/fd")), default=2)  # noqa: PTH208
