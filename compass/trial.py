"""A stack that belongs to this process: the demo's, a benchmark's or a test's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psutil

from compass.lock import holder_of
from compass.log import tail
from registry.forks import die_with_parent

ROOT = Path(__file__).resolve().parent.parent
START_PATIENCE = 90.0  # seconds
STOP_PATIENCE = 60.0  # seconds


class NotStarted(Exception):
    """The stack ended, or was not ready in time; says what it last wrote."""


class TrialStack:
    """`manage.py up` as a child. Use it as a context; start it from the main thread."""

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir, self.port = data_dir, port
        self.environment = {**os.environ, **(environment or {})}
        self.log = data_dir / "logs" / "stack.log"
        self.url = ""
        self._members: list[psutil.Process] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it is ready. Raises NotStarted."""
        command = [sys.executable, "manage.py", "up", "--data-dir", str(self.data_dir)]
        if self.port is not None:
            command += ["--port", str(self.port)]
        if not holder_of(self.data_dir):
            # What a killed stack left would be taken for this one's.
            (self.data_dir / "address").unlink(missing_ok=True)
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.log.chmod(0o600)
            self.child = subprocess.Popen(  # noqa: S603
                command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    @property
    def key(self) -> str:
        return (self.data_dir / "key").read_text().strip()

    @property
    def pid(self) -> int:
        return self.child.pid

    def members(self) -> list[psutil.Process]:
        """The supervisor and every process beneath it, now."""
        try:
            head = psutil.Process(self.child.pid)
            return [head, *head.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to stop and wait; kill what does not obey in time."""
        self._members += self.members()
        if self.child.poll() is None:
            self.child.send_signal(number)
            try:
                self.child.wait(STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def left(self) -> list[psutil.Process]:
        """Processes that stopping should have ended and did not."""
        return [
            one
            for one in self._members
            if one.is_running() and one.status() != psutil.STATUS_ZOMBIE
        ]

    def last_words(self, lines: int = 15) -> str:
        return tail(self.log, lines)

    def _wait_until_ready(self) -> None:
        address = self.data_dir / "address"
        deadline = time.monotonic() + START_PATIENCE
        while not address.exists():
            if self.child.poll() is not None:
                raise NotStarted(f"The stack ended.\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise NotStarted(f"The stack was not ready.\n{self.last_words()}")
            time.sleep(0.05)
        self.url = address.read_text().strip()
