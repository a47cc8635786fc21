from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from django.conf import settings

from compass import embedded, env
from compass.plan import Plan, answers_ping
from compass.process import Phase, Process


@pytest.fixture
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A short path, for a socket's must be short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(env, "SOCKETS", Path())
    monkeypatch.setattr(embedded, "SOCKETS", Path())
    return Path()


def forgotten(sockets: Path, name: str, age: float = 100.0) -> Path:
    path = sockets / f"compass-{os.getuid()}-{name}"
    path.mkdir()
    moment = time.time() - age
    os.utime(path, (moment, moment))
    return path


def test_the_socket_directory_goes_when_the_broker_has_ended(sockets: Path) -> None:
    deep = sockets / ("d" * 100)
    path = env.socket_path(deep)
    embedded.private_directory(path.parent)
    path.touch()
    embedded.remove_socket(deep)
    assert not path.parent.exists()
    embedded.remove_socket(deep)  # again does no harm


def test_a_socket_within_the_data_directory_stays_with_it(sockets: Path) -> None:
    data_dir = sockets / "data"
    embedded.private_directory(embedded.directory(data_dir))
    embedded.remove_socket(data_dir)
    assert embedded.directory(data_dir).exists()


def test_forgotten_socket_directories_go_at_the_start(sockets: Path) -> None:
    empty, dead = forgotten(sockets, "empty"), forgotten(sockets, "dead")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(dead / "valkey.sock"))
    os.utime(dead, (0, 0))
    embedded.remove_forgotten_sockets()
    assert not empty.exists()
    assert not dead.exists()


def test_directories_in_use_stay(sockets: Path) -> None:
    young, other = forgotten(sockets, "young", age=1.0), forgotten(sockets, "other")
    (other / "not ours").touch()
    os.utime(other, (0, 0))
    used = forgotten(sockets, "used")
    (sockets / f"compass-{os.getuid()}-link").symlink_to(other.name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(used / "valkey.sock"))
        server.listen()
        os.utime(used, (0, 0))
        embedded.remove_forgotten_sockets()
    assert young.exists()
    assert (other / "not ours").exists()
    assert (used / "valkey.sock").exists()


def test_messages_are_put_aside_and_one_such_directory_is_kept(tmp_path: Path) -> None:
    assert embedded.put_messages_aside(tmp_path) == ""
    for number in ("1", "2"):
        messages = tmp_path / "broker" / embedded.APPEND_ONLY
        messages.mkdir(parents=True)
        (messages / "number").write_text(number)
        assert "begins empty" in embedded.put_messages_aside(tmp_path)
        assert not messages.exists()
    kept = list((tmp_path / "broker").iterdir())
    assert [one.name for one in kept] == [embedded.ASIDE]
    assert (kept[0] / "number").read_text() == "2"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Process]:
    environment = replace(settings.ENVIRONMENT, data_dir=tmp_path)
    holder = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    broker = Plan(environment, held=holder).broker()
    yield broker
    broker.kill()
    while not broker.has_ended():
        time.sleep(0.01)
    os.close(holder)


def until_ready(broker: Process) -> str:
    told, deadline = "", time.monotonic() + 30
    while broker.phase is not Phase.READY and time.monotonic() < deadline:
        told += broker.look()
        broker.due = 0.0  # no back-off
        time.sleep(0.01)
    assert broker.phase is Phase.READY, told
    return told


def test_a_broker_that_cannot_read_its_messages_begins_empty(
    broker: Process, tmp_path: Path
) -> None:
    broker.start()
    until_ready(broker)
    os.kill(broker.pid, signal.SIGTERM)
    while not broker.has_ended():
        time.sleep(0.01)
    (log,) = (tmp_path / "broker" / embedded.APPEND_ONLY).glob("*.incr.aof")
    log.write_bytes(b"no message at all" + log.read_bytes())
    broker.start()
    assert "begins empty" in until_ready(broker)
    assert answers_ping(env.socket_path(tmp_path))
    assert (tmp_path / "broker" / embedded.ASIDE / log.name).exists()
