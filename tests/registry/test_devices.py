"""The GPUs of a host: by a file, by NVIDIA's command, and who uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry import devices, nvidia
from registry.devices import Fake, Gpu, NoGpus, Watch, busy
from registry.models import Task
from registry.resources import GIB
from tests.conftest import make_node


def gpu(*pids: int, index: int = 1) -> Gpu:
    return {
        "index": index,
        "name": "Test",
        "uuid": "GPU-1",
        "memory": 16 * GIB,
        "free": 8 * GIB,
        "processes": [
            {"pid": pid, "user": "alice", "name": "python3", "memory": pid * GIB // 10}
            for pid in pids
        ],
    }


@pytest.fixture
def file(tmp_path: Path, settings: Any) -> Path:
    path = tmp_path / "gpus.json"
    path.write_text('[{"index": 0}]')
    settings.ENVIRONMENT = replace(settings.ENVIRONMENT, fake_gpus=str(path))
    return path


def test_a_gpu_that_nobody_uses_is_not_busy() -> None:
    assert busy(gpu(), ()) == ""


def test_the_sentence_names_the_gpu_and_the_process() -> None:
    assert busy(gpu(32), ()) == (
        "GPU 1 is used by process 32 (alice, python3, 3.2 GiB) outside Compass."
    )


def test_of_several_the_largest_is_named_and_the_others_are_counted() -> None:
    assert "process 50 (alice, python3, 5.0 GiB) and 2 more" in busy(gpu(10, 50, 7), ())


def test_compass_own_processes_do_not_count() -> None:
    assert busy(gpu(10, 50), {10, 50}) == ""
    assert "process 10 (" in busy(gpu(10, 50), {50})


def test_what_cannot_be_seen_of_a_process_is_left_out() -> None:
    one = gpu(10)
    one["processes"][0] |= {"user": "", "name": ""}
    assert "process 10 (1.0 GiB)" in busy(one, ())


def test_the_file_is_read_again_at_each_look(file: Path) -> None:
    watch = Watch(devices.inventory(), set)
    (one,) = watch.look()
    assert (one["index"], one["busy"], one["memory"]) == (0, "", 16 * GIB)
    users = [{"pid": 4711, "user": "alice", "name": "python3", "memory": GIB}]
    file.write_text(json.dumps([{"index": 0, "processes": users}, {"index": 3}]))
    first, second = watch.look()
    assert "process 4711" in first["busy"]
    assert first["free"] == 15 * GIB
    assert (second["index"], second["busy"]) == (3, "")


@pytest.mark.parametrize(
    "text", ["", "[", "{}x", "7", '[{"name": "no index"}]', "[7]", "[null]"]
)
def test_a_file_that_tells_of_no_gpus_leaves_them_as_they_were(
    file: Path, text: str
) -> None:
    watch = Watch(devices.inventory(), set)
    before = watch.look()
    file.write_text(text)
    assert watch.look() == before
    assert devices.gpus() == []
    with pytest.raises(OSError, match="COMPASS_FAKE_GPUS"):
        Fake(file).gpus()


def test_a_file_that_is_gone_leaves_them_as_they_were(file: Path) -> None:
    watch = Watch(devices.inventory(), set)
    before = watch.look()
    file.unlink()
    assert watch.look() == before


def test_jobs_with_fake_gpus_compute_on_the_cpu(file: Path, settings: Any) -> None:
    assert devices.torch_device([0]) == "cpu"
    settings.ENVIRONMENT = replace(settings.ENVIRONMENT, fake_gpus="")
    assert devices.torch_device([0]) == "cuda"
    assert devices.torch_device([]) == "cpu"


SMI = """#!/bin/sh
case "$1" in
  --query-gpu=index,name,uuid,memory.total,memory.free)
    echo "0, NVIDIA A100, GPU-aa, 40960, 40000"
    echo "1, NVIDIA A100, GPU-bb, 40960, 960";;
  --query-compute-apps=gpu_uuid,pid,used_memory)
    echo "GPU-bb, 1, 30000"
    echo "GPU-bb, 999999999, [N/A]";;
esac
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bin" / nvidia.COMMAND
    path.parent.mkdir()
    path.write_text(SMI)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    monkeypatch.setattr(nvidia.Library, "is_there", staticmethod(lambda: False))
    return path


def test_without_the_library_nvidias_command_is_asked(command: Path) -> None:
    first, second = devices.gpus()
    assert (first["name"], first["memory"]) == ("NVIDIA A100", 40960 * 1024**2)
    assert first["processes"] == []
    assert [one["pid"] for one in second["processes"]] == [1, 999999999]
    assert second["processes"][0]["name"]
    assert second["processes"][1] == nvidia.user(999999999, 0)
    assert "GPU 1 is used by process 1 (" in busy(second, ())


@pytest.mark.parametrize("text", ["exit 9", "echo a, b, c", "echo 'No devices'"])
def test_a_command_that_does_not_answer_is_no_gpu(command: Path, text: str) -> None:
    command.write_text(f"#!/bin/sh\n{text}\n")
    assert devices.gpus() == []
    with pytest.raises(OSError, match=nvidia.COMMAND):
        nvidia.Command().gpus()


def test_a_host_without_either_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia.Library, "is_there", staticmethod(lambda: False))
    monkeypatch.setenv("PATH", "/nowhere")
    assert devices.gpus() == []


@pytest.mark.django_db
def test_names_that_are_no_texts_keep_no_node_from_beating(
    submit: Callable[..., Task],
) -> None:
    one = gpu(10)
    one["processes"][0]["name"] = one["name"] = "a\udcff\x00"
    inventory = NoGpus()
    inventory.gpus = lambda: [one]  # type: ignore[method-assign]
    node, task = make_node(), submit()
    (seen,) = Watch(inventory, own=tuple).look()
    assert "(alice, a?, 1.0 GiB)" in seen["busy"]
    assert node.beat(gpus=[seen])
    task.assign(node)
    task.release("no_room", seen["busy"])
    assert Task.objects.get().message == seen["busy"]
