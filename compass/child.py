"""What a process of the stack does between its fork and its own work."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from setproctitle import setproctitle

from registry.forks import die_with_parent, leave, split

PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def fork(
    command: Sequence[str],
    main: Callable[[], object] | None,
    *,
    log: int,
    environment: Mapping[str, str],
    directory: Path,
    held: Collection[int],
) -> int:
    """Start the command in a session of its own; its process id.

    With `main`, the child is not a new program but a copy of this one, with all that it has
    imported, and runs that function; the memory stays shared until it is written to. The
    child dies with the calling thread, and keeps no file open but its log and `held`.
    """
    child, parent = split()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        # The stack waits for signals with these masked; a child must hear them.
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        die_with_parent(parent)
        _redirect(log, held)
        os.chdir(directory)
        if main is None:
            os.execve(command[0], list(command), dict(environment))  # noqa: S606
        setproctitle(" ".join(command))  # before the environment, in whose room it goes
        os.environ.clear()
        os.environ.update(environment)
        code = _run(command, main)
    except BaseException:
        traceback.print_exc()
    finally:
        _end(code)


def _redirect(log: int, held: Collection[int]) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    keep = set(held)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        number = int(name)
        if number in keep:
            os.set_inheritable(number, True)
        elif number > 2:
            try:
                os.close(number)
            except OSError:
                continue  # the one that listed the directory


def _run(command: Sequence[str], main: Callable[[], object]) -> int:
    """Run main as if it were the program of the command; the exit code."""
    sys.argv = list(command[2:])  # without the interpreter and -m
    # So that what multiprocessing starts from here does not import manage.py.
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        main()
    except SystemExit as exit_:
        if isinstance(exit_.code, str):
            sys.stderr.write(f"{exit_.code}\n")
            return 1
        return exit_.code or 0
    return 0


def _end(code: int) -> NoReturn:
    try:
        atexit._run_exitfuncs()
    finally:
        leave(code)
