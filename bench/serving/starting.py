"""Starts a server of the catalog in a folder of its own, and waits until it answers rightly."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.serving import models
from bench.serving.catalog import COMPASS, Peer
from bench.serving.recipes import announce
from bench.serving.server import PATIENCE, ROOT, NotMeasured, Server, start

PREDICT = "/api/v1/inference/predict"
FIRST = 18_200  # port, where nobody names one
APART = 4  # a peer may take three ports more than it is given
TOLD = 300  # characters of an error


def free_ports(first: int) -> Iterator[int]:
    """Ports from the first on of which the next ones are free, too."""
    for port in range(first, 65_000, APART):
        if all(_is_free(one) for one in range(port, port + APART)):
            yield port


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@contextmanager
def running(
    peer: Peer, variant: str, model: str, port: int, environments: Path
) -> Iterator[Server]:
    """The server, ready. Raises NotMeasured if it is not installed or does not start."""
    arguments = peer.variants[model][variant]
    with tempfile.TemporaryDirectory(prefix="cb-", ignore_cleanup_errors=True) as where:
        folder, name = Path(where), f"{peer.name} {variant}"
        if peer.name == COMPASS:
            command, variables = _compass(folder, port, *arguments)
        else:
            command = [_python(peer, environments), "-m", _module(peer)]
            command += [model, str(port), *arguments]
            variables = {}
        server = start(name, command, port, folder, variables)
        try:
            if peer.name == COMPASS:
                server.ends_itself = True
                _register(server, folder, variables)
            (body,) = peer.bodies(model, models.items(model, 1))
            server.wait(peer.address(model), body)
            yield server
        finally:
            server.stop()


@contextmanager
def compass(engine: str = "", workers: str = "1") -> Iterator[Server]:
    """A stack with both models, on the engine of that name or on the fastest."""
    with tempfile.TemporaryDirectory(prefix="cb-", ignore_cleanup_errors=True) as where:
        folder, port = Path(where), next(free_ports(FIRST))
        command, variables = _compass(folder, port, workers)
        server = start(COMPASS, command, port, folder, variables)
        server.ends_itself = True
        try:
            _register(server, folder, variables, engine)
            yield server
        finally:
            server.stop()


def _module(peer: Peer) -> str:
    return f"bench.serving.peers.{peer.name}"


def _python(peer: Peer, environments: Path) -> str:
    if peer.is_ours:
        return sys.executable
    python = environments / peer.name / "bin" / "python"
    if python.exists():
        return str(python)
    note = environments / f"{peer.name}.skipped"
    if note.exists():
        raise NotMeasured(f"it cannot be installed: {note.read_text().strip()}")
    raise NotMeasured(
        f"not installed: python -m bench.serving.install --peer {peer.name}"
    )


def _compass(folder: Path, port: int, workers: str) -> tuple[list[str], dict[str, str]]:
    extra = folder / "extra"
    announce(extra)
    variables = {
        "PYTHONPATH": os.pathsep.join((str(extra), str(ROOT))),
        "COMPASS_DATA_DIR": str(folder / "data"),
        "COMPASS_LOG_LEVEL": "WARNING",
        "COMPASS_INFERENCE_WORKERS": workers,
    }
    return [sys.executable, "manage.py", "up", "--port", str(port)], variables


def _register(
    server: Server, folder: Path, variables: dict[str, str], engine: str = ""
) -> None:
    """Both models in the stack, with their engines measured; and its key and port."""
    home, end = folder / "data", time.monotonic() + PATIENCE
    while not (home / "address").exists():
        server.tree()
        if server.process.poll() is not None or time.monotonic() > end:
            raise NotMeasured(f"the stack did not start: {server.last_words()}")
        time.sleep(0.1)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "bench.serving.register", *engine.split()],
        cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise NotMeasured(f"models are not registered: {done.stderr.strip()[-TOLD:]}")
    server.headers = {"Authorization": f"Bearer {(home / 'key').read_text().strip()}"}
    server.port = int((home / "address").read_text().rsplit(":", 1)[1])
    for model in models.MODULES:  # it holds both, as its memory is to show
        body = {"model": model, "inputs": models.items(model, 1)}
        server.ask(PREDICT, json.dumps(body).encode())
