"""Copies of this process that die with it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int | None = None) -> None:
    """Let the kernel kill this process when the thread that started it ends.

    With the process id of the parent, at once if that has ended already.
    """
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def fork(main: Callable[[], object]) -> int:
    """Have a copy of this process run `main` and nothing else; its process id.

    It dies with the calling thread, and takes no signal to be its parent's. Call it only while
    this process has one thread: what another holds locked would stay so in the copy.
    """
    child, parent = split()
    if child:
        return child
    code = 1
    try:
        die_with_parent(parent)
        for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
            signal.signal(one, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's, to the whole group
        signal.set_wakeup_fd(-1)
        main()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        leave(code)


def split() -> tuple[int, int]:
    """Go on as two processes: the id of the child, which is 0 in the child, and the parent's."""
    parent = os.getpid()
    _flush()  # or both would write what waits
    return os.fork(), parent


def leave(code: int) -> NoReturn:
    """End a copy of a process, without what its original does at its own end."""
    try:
        _flush()
    finally:
        os._exit(code)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
