"""Processes of their own for what strangers sent: little memory, low priority, no secrets.

`run` starts one and hears what it has to say; `begin`, `hold` and `tell` are that process's side.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TextIO

from registry import cores
from registry.forks import die_with_parent

ROOT = Path(__file__).resolve().parent.parent
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR")
TICK_EVERY = 0.1  # seconds
MOST_TOLD = 4 * 1024**2  # bytes
BEGUN = "{}"  # the first line: whatever ends the process later came of its work
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Ended:
    """How such a process ended; `found` is what it told, None if it had no word."""

    code: int
    found: dict[str, Any] | None
    has_begun: bool
    last_words: bytes

    @property
    def signal(self) -> signal.Signals | None:
        return signal.Signals(-self.code) if self.code < 0 else None


def run(
    module: str,
    arguments: Sequence[str],
    *,
    seconds: float | None = None,
    tick: Callable[[], object] = lambda: None,
    variables: Mapping[str, str] = NOTHING,
    files: Sequence[int] = (),
) -> Ended:
    """Run `python -m module` until it ends, with `tick` called meanwhile.

    It is killed, with all that it started, when `tick` raises, and dies with the calling
    thread. `files` are descriptors that it inherits. Raises subprocess.TimeoutExpired.
    """
    command = [sys.executable, "-m", module, str(os.getpid()), *arguments]
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    kept |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **variables}
    child = subprocess.Popen(  # noqa: S603
        command,
        cwd=ROOT,
        env=kept,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=files,
        start_new_session=True,
    )
    with suppress(OSError):  # this process may be settled on one core
        os.sched_setaffinity(child.pid, cores.ALLOWED)
    try:
        out, words = _heard(child, seconds, tick)
    finally:
        _end(child)
    first, _, rest = out.partition(b"\n")
    told = rest[-MOST_TOLD:].rpartition(b"\n")[2]
    try:
        found = json.loads(told)
    except ValueError:
        found = None
    has_begun = first == BEGUN.encode()
    return Ended(child.returncode, found, has_begun, words[-4000:])


def _heard(
    child: subprocess.Popen[bytes], seconds: float | None, tick: Callable[[], object]
) -> tuple[bytes, bytes]:
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        try:
            return child.communicate(timeout=TICK_EVERY)
        except subprocess.TimeoutExpired:
            if end is not None and time.monotonic() > end:
                raise
            tick()


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.returncode is None:  # afterwards its number may be another's
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def begin() -> tuple[list[str], TextIO]:
    """Die with the parent, step back behind all others; the arguments, and where to `tell`."""
    parent, *arguments = sys.argv[1:]
    die_with_parent(int(parent))
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the work prints is no answer
    os.nice(10)
    told.write(f"{BEGUN}\n")
    told.flush()
    return arguments, told


def hold(memory: int, written: int, processor: int) -> None:
    """Allow that many bytes of memory more than are taken now, files of so many bytes, so many
    seconds of a processor, and no core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # At the soft limit SIGXCPU says why it ends; at the hard one comes SIGKILL.
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 5))
    status = Path("/proc/self/status").read_text()
    taken = re.search(r"VmData:\s+(\d+) kB", status)
    data = (int(taken[1]) * 1024 if taken else 0) + memory
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    resource.setrlimit(resource.RLIMIT_FSIZE, (written, written))


def tell(told: TextIO, found: Mapping[str, Any]) -> NoReturn:
    """Say what was found, and end."""
    told.write(f"\n{json.dumps(found)}")
    told.flush()
    os._exit(0)  # threads of a runtime may not let go
