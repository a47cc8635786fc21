from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


class Stack:
    """A real stack on a directory of its own, and its processes by what they are."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("COMPASS_", "DJANGO_"))
        }
        log = (directory / "up.log").open("w")
        self.supervisor = subprocess.Popen(
            [
                sys.executable,
                "manage.py",
                "up",
                "--data-dir",
                str(directory),
                "--port",
                "8900",
            ],
            cwd=ROOT,
            env={**environment, "HOME": str(directory), **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        try:
            self.until(lambda: (directory / "address").exists(), "the stack is ready")
        except AssertionError:
            self.stop()
            raise
        key = (directory / "key").read_text().strip()
        self.http = httpx.Client(
            base_url=(directory / "address").read_text().strip(),
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
        )

    def until(self, done: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        """Wait for the outside world, which no test can hurry."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := done():
                return value
            time.sleep(0.05)
        log = (self.directory / "up.log").read_text()[-2000:]
        raise AssertionError(f"not within {seconds} s: {what}\n{log}")

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.supervisor.pid).children(recursive=True)

    def process(self, *words: str) -> psutil.Process:
        """The one process whose command has all the words."""
        for one in self.descendants():
            try:
                if all(word in " ".join(one.cmdline()) for word in words):
                    return one
            except psutil.Error:
                continue
        raise AssertionError(f"no process has {words}")

    def get(self, path: str) -> Any:
        return self.again(lambda: self.http.get(f"/api/v1{path}")).json()

    def post(self, path: str, **body: Any) -> Any:
        answer = self.again(lambda: self.http.post(f"/api/v1{path}", json=body))
        assert answer.status_code < 300, answer.text
        return answer.json()

    def again(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        """Ask until the web process is there; who asked while it ended is told 503."""

        def asked() -> httpx.Response | None:
            try:
                found = ask()
            except httpx.TransportError:
                return None
            return None if found.status_code == 503 else found

        answer: httpx.Response = self.until(asked, "the web answers", 30)
        return answer

    def upload(self, path: Path) -> str:
        with path.open("rb") as file:
            answer = self.http.post("/api/v1/uploads", files={"file": file})
        assert answer.status_code == 201, answer.text
        number = str(answer.json()["id"])
        self.until(
            lambda: self.get(f"/uploads/{number}")["state"] == "sealed",
            "it is sealed",
            20,
        )
        return number

    def stop(self) -> None:
        self.supervisor.send_signal(signal.SIGTERM)
        self.supervisor.wait(60)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    yield stack
    stack.stop()
    stack.http.close()
