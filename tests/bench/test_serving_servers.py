"""How the servers of the serving comparison are installed, started, stopped, and reported when they are not."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from bench.serving import __main__ as command
from bench.serving import install, starting
from bench.serving.catalog import BY_NAME, PEERS
from bench.serving.server import NotMeasured, last_line, start
from bench.serving.table import Found

SERVING = Path(install.__file__).parent
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    return command.read(["--only", "litserve", "--peers-in", str(tmp_path)])


def attempt(options: argparse.Namespace) -> dict[str, str]:
    """What is missing after the servers were started."""
    found = Found()
    with ExitStack() as stack:
        ports = starting.free_ports(18_640)
        assert not list(command.begin(stack, found, options, "tiny", ports))
    return found.missing


def stand_in(folder: Path, text: str) -> None:
    python = folder / "litserve" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{text}\n")
    python.chmod(0o755)


def test_a_peer_that_is_not_installed_is_reported(options: argparse.Namespace) -> None:
    (reason,) = attempt(options).values()
    assert reason == "not installed: python -m bench.serving.install --peer litserve"


def test_a_peer_that_could_not_be_installed_is_reported(
    options: argparse.Namespace, tmp_path: Path
) -> None:
    (tmp_path / "litserve.skipped").write_text("it would bring another torch\n")
    assert attempt(options) == {
        "litserve x1, tiny": "it cannot be installed: it would bring another torch"
    }


def test_a_peer_that_does_not_start_is_reported_with_its_last_words(
    options: argparse.Namespace, tmp_path: Path
) -> None:
    stand_in(tmp_path, "echo Traceback; echo ImportError: no zmq >&2; exit 3")
    assert attempt(options) == {"litserve x1, tiny": "it ended: ImportError: no zmq"}


def test_a_server_stands_still_between_its_turns_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    server = start("x", [sys.executable, "-c", PARENT], 1, tmp_path, {})
    try:
        while "ready" not in server.log.read_text():
            assert server.process.poll() is None
        both = server.tree()
        assert len(both) == 2
        server.pause()
        for one in both:
            while one.status() != psutil.STATUS_STOPPED:
                pass
        assert server.cost().pss > 0
        server.resume()
        server.process.kill()
        server.process.wait()
        assert len(server.tree()) == 1  # the child is not forgotten
    finally:
        server.stop()
    assert not any(one.is_running() for one in psutil.wait_procs(both, 5)[1])


def test_a_command_that_is_not_there_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(NotMeasured, match="cannot be started"):
        start("x", [str(tmp_path / "nothing")], 1, tmp_path, {})


def test_the_last_line_that_names_an_error_or_says_something_is_the_reason() -> None:
    assert last_line("one\ntwo\n\n  \n") == "two"
    assert (
        last_line("a.b.OddError: no zmq\nINFO - Error free\n") == "a.b.OddError: no zmq"
    )
    assert last_line("") == "it said nothing"


def test_every_peer_has_a_module_and_what_it_needs() -> None:
    for peer in PEERS:
        assert peer.settings
        assert (
            peer.name == "compass" or (SERVING / "peers" / f"{peer.name}.py").exists()
        )
        if not peer.is_ours:
            pinned = (SERVING / "requirements" / f"{peer.name}.txt").read_text()
            assert "torch==2.13.0" in pinned.splitlines()


def test_each_peer_is_asked_in_its_own_words_and_read_again() -> None:
    item = {"ligand": [1, 2], "protein": [3]}
    (asked,) = BY_NAME["mlserver"].bodies("dta", [item])
    assert json.loads(asked)["inputs"] == [
        {"name": "ligand", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]},
        {"name": "protein", "shape": [1, 1], "datatype": "INT64", "data": [3]},
    ]
    assert BY_NAME["mlserver"].read({"outputs": [{"data": [0.5]}]}) == 0.5
    assert BY_NAME["bentoml"].read([0.5]) == 0.5
    assert BY_NAME["compass"].read({"outputs": [{"y": 0.5}]}) == 0.5
    assert BY_NAME["torchserve"].address("dta") == "/predictions/dta"


def test_a_server_that_nobody_knows_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.read(["--only", "compass, fastapi"]).only == ["compass", "fastapi"]
    with pytest.raises(SystemExit):
        command.read(["--only", "triton"])
    assert "no triton" in capsys.readouterr().err


def test_an_environment_with_another_torch_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = {"install": [{"metadata": {"name": "Torch", "version": "2.13.0+cpu"}}]}
    monkeypatch.setattr(install, "version", lambda _: "2.13.0+cpu")
    install.check(report)
    monkeypatch.setattr(install, "version", lambda _: "2.13.0+cu130")
    with pytest.raises(install.Skipped, match=r"would bring torch 2\.13\.0\+cpu"):
        install.check(report)


def test_a_peer_that_cannot_be_installed_is_skipped_and_the_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(name: str, into: Path) -> str:
        if name == "mlserver":
            raise install.Skipped("no such version")
        return "installed"

    monkeypatch.setattr(install, "install", fake)
    asked = ["--peer", "litserve", "mlserver", "--into", str(tmp_path)]
    assert install.main(asked) == 1
    assert (tmp_path / "mlserver.skipped").read_text() == "no such version\n"
    told = capsys.readouterr().out
    assert told == "litserve: installed\nmlserver: skipped: no such version\n"
