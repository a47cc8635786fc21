"""A server under measurement: its processes, what they cost, and how it stands still meanwhile."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from registry.forks import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0  # seconds until it must answer
STOP_PATIENCE = 20.0  # seconds
TOLD = 300  # characters of a reason
NAMES_ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception)\b")


class NotMeasured(Exception):
    """Why a peer has no figures."""


@dataclass
class Cost:
    """What a server has used: seconds of processor time so far, and MB now."""

    cpu: float
    pss: float  # shared pages counted once
    rss: float  # shared pages counted in each process


@dataclass
class Server:
    """A started server and everything that it started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    port: int
    headers: dict[str, str] = field(default_factory=dict)
    ends_itself: bool = False  # ends its own processes when it is told to stop
    known: set[psutil.Process] = field(default_factory=set)

    def tree(self) -> list[psutil.Process]:
        """Its processes that live, also those whose parent has gone since they were seen."""
        for one in list(self.known):
            try:
                self.known |= set(one.children(recursive=True))
            except psutil.NoSuchProcess:
                pass
        self.known = {one for one in self.known if _lives(one)}
        return list(self.known)

    def cost(self, *words: str) -> Cost:
        """What all of it uses, or the processes with one of these words in their command."""
        cpu = pss = rss = 0.0
        for one in self.tree():
            try:
                command = " ".join(one.cmdline())
                if words and not any(word in command for word in words):
                    continue
                # What its ended children had is its own from then on.
                cpu += sum(one.cpu_times()[:4])
                memory = one.memory_full_info()
            except psutil.NoSuchProcess:
                continue
            pss, rss = pss + memory.pss / 1e6, rss + memory.rss / 1e6
        return Cost(cpu, pss, rss)

    def pause(self) -> None:
        """Let it use no processor time while another one is measured."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def wait(self, path: str, body: bytes) -> None:
        """Wait until it answers this request. Raises NotMeasured."""
        end, found = time.monotonic() + PATIENCE, "nobody listens"
        while time.monotonic() < end:
            self.tree()
            if self.process.poll() is not None:
                raise NotMeasured(f"it ended: {self.last_words()}")
            if (found := self.ask(path, body)) == "200":
                return
            time.sleep(0.2)
        raise NotMeasured(f"{found} for {PATIENCE:g} s: {self.last_words()}")

    def ask(self, path: str, body: bytes) -> str:
        """What comes of one request: 200, or what is wrong."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": "application/json", **self.headers}
        try:
            line.request("POST", path, body, headers)
            answer = line.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__
        finally:
            line.close()
        return str(answer.status) if answer.status == 200 else f"{answer.status} {text}"

    def last_words(self) -> str:
        return last_line(self.log.read_text(errors="replace"))

    def stop(self) -> None:
        self.resume()
        everyone = self.tree()
        if self.ends_itself:
            self.process.terminate()
        else:
            self._signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        psutil.wait_procs(everyone, 3)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for one in self.tree():
            try:
                one.send_signal(number)
            except psutil.NoSuchProcess:
                continue


def start(
    name: str,
    command: Iterable[str],
    port: int,
    folder: Path,
    variables: Mapping[str, str],
) -> Server:
    """Start it, with a folder for all that it writes. Raises NotMeasured."""
    log = folder / "server.log"
    ours = ("COMPASS_", "DJANGO_", "CELERY_", "BENCH_", "VIRTUAL_ENV")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    kept |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    try:
        with log.open("wb") as out:
            process = subprocess.Popen(
                list(command), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=kept | dict(variables), start_new_session=True,
                preexec_fn=die_with_parent,
            )  # fmt: skip
    except OSError as error:
        raise NotMeasured(f"it cannot be started: {error}") from None
    # Not reaped yet, so its process is there to be looked at.
    return Server(name, process, log, port, known={psutil.Process(process.pid)})


def last_line(text: str) -> str:
    """The last line of a log that names an error, else the last that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if NAMES_ERROR.search(line)]
    return (errors or lines or ["it said nothing"])[-1][-TOLD:]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
