from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from email.message import Message
from pathlib import Path

import pytest
from django.conf import settings

from compass import plan
from compass.env import Environment
from compass.plan import Plan, answers_ping, missing, status
from registry import devices


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return replace(
        settings.ENVIRONMENT, data_dir=tmp_path, node_name="here", cpus=6, web_threads=3
    )


def option(command: object, name: str) -> str:
    words = list(command)  # type: ignore[call-overload]
    return str(words[words.index(name) + 1])


def test_each_lane_has_a_worker_with_its_own_queues(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpus", list)
    workers = {one.name: one.command for one in Plan(environment, held=0).workers()}
    assert {name: option(one, "-n") for name, one in workers.items()} == {
        "control": "control@here",
        "cpu": "cpu@here",
        "inference": "inference@here",
    }
    assert {name: option(one, "-Q") for name, one in workers.items()} == {
        "control": "control",
        "cpu": "cpu.here",
        "inference": "inference.here,inference.cpu",
    }
    assert option(workers["cpu"], "--concurrency") == "8"
    assert all(option(one, "--pool") == "threads" for one in workers.values())


def test_each_inference_worker_has_a_name_a_queue_and_a_log_of_its_own(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpus", list)
    three = replace(environment, inference_workers=3)
    found = [
        one
        for one in Plan(three, held=0).workers()
        if option(one.command, "-n").startswith("inference@")
    ]
    assert [option(one.command, "-n") for one in found] == [
        "inference@here", "inference@here.2", "inference@here.3",
    ]  # fmt: skip
    assert [option(one.command, "-Q") for one in found] == [
        "inference.here,inference.cpu",
        "inference.here.2,inference.cpu",
        "inference.here.3,inference.cpu",
    ]
    assert len({one.log for one in found}) == 3


def test_a_gpu_brings_a_worker_of_its_lane(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpus", lambda: [{"index": 0}])
    workers = {one.name: one.command for one in Plan(environment, held=0).workers()}
    assert option(workers["gpu"], "-Q") == "gpu.here"
    queues = option(workers["inference"], "-Q")
    assert queues == "inference.here,inference.gpu,inference.cpu"


def test_children_learn_the_directory_and_the_stack(environment: Environment) -> None:
    web = Plan(environment, held=7).web(8001)
    assert web.environment["COMPASS_DATA_DIR"] == str(environment.data_dir)
    assert web.environment["COMPASS_STACK"]
    assert list(web.held) == [7]
    assert option(web.command, "--port") == "8001"
    assert option(web.command, "--blocking-threads") == "3"


def test_the_broker_keeps_its_data_and_listens_on_no_port(
    environment: Environment,
) -> None:
    broker = Plan(environment, held=0).broker()
    assert option(broker.command, "--port") == "0"
    assert option(broker.command, "--appendonly") == "yes"
    assert option(broker.command, "--maxmemory-policy") == "noeviction"
    directory = Path(option(broker.command, "--dir"))
    assert directory.stat().st_mode & 0o777 == 0o700


def test_neither_web_nor_workers_import_torch_or_rdkit(tmp_path: Path) -> None:
    code = (
        "import sys, django; django.setup()\n"
        "from compass.plan import warm_up; warm_up()\n"
        "import compass.urls\n"
        "print([name for name in ('torch', 'rdkit', 'scipy') if name in sys.modules])\n"
    )
    variables = {
        **os.environ,
        "COMPASS_DATA_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "compass.settings",
    }
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=plan.BASE_DIR,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stdout.strip() == "[]", run.stderr


@pytest.mark.parametrize(
    ("reply", "is_ready"), [(b"+PONG\r\n", True), (b"-LOADING data\r\n", False)]
)
def test_a_broker_that_still_loads_is_not_ready(
    tmp_path: Path, reply: bytes, is_ready: bool
) -> None:
    path = tmp_path / "s"

    def serve() -> None:
        with server.accept()[0] as client:
            client.recv(64)
            client.sendall(reply)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        assert answers_ping(path) is is_ready
        thread.join()


def test_what_is_not_ready_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {
        "broker": {"ok": False, "detail": "ConnectionError"},
        "disk": {"ok": True, "detail": "9 GiB free"},
    }
    body = io.BytesIO(json.dumps({"parts": parts}).encode())

    def refuse(url: str, timeout: float) -> None:
        raise urllib.error.HTTPError(url, 503, "", Message(), body)

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    assert missing("http://there") == ["broker: ConnectionError"]


def test_a_server_that_is_not_there_has_no_status(tmp_path: Path) -> None:
    assert status("http://127.0.0.1:1/health") == 0
    assert not answers_ping(tmp_path / "nothing")
