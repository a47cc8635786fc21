"""An inference worker keeps to its share of the machine's memory, whatever a model asks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from inference import memory, worker
from inference.onnx_model import Predictor
from tests.inference.onnx_files import FLOAT, INT64, model

HELD = """
import resource
from inference import memory
memory.hold(256 * 1024**2)
try:
    bytearray(1024**3)
except MemoryError:
    print("refused")
print(len(bytearray(1024**2)))
soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
memory.hold(1)
print(hard == resource.RLIM_INFINITY or soft < hard)
"""


def growing(directory: Path) -> Predictor:
    """y = x and a sum over as many zeros as x says."""
    made = model(
        [
            helper.make_node("Cast", ["x"], ["n"], to=INT64),
            helper.make_node("ReduceMax", ["n"], ["most"], keepdims=0),
            helper.make_node("Unsqueeze", ["most", "axis"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
            helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
            helper.make_node("Add", ["x", "sum"], ["y"]),
        ],
        [("x", FLOAT, ["batch", 1])],
        [("y", FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.array([0], np.int64), "axis")],
    )
    (directory / "model.onnx").write_bytes(made.SerializeToString())
    return Predictor.examine(directory)


def test_a_pass_gives_back_what_it_took(tmp_path: Path) -> None:
    net, size = growing(tmp_path), 100_000_000
    before = memory.anonymous()
    encoded = [net.encode({"x": [float(size)]})]
    assert net.predict(encoded) == [{"y": [float(size)]}]
    assert memory.anonymous() - before < size  # of four times as many bytes


def test_what_asks_for_more_than_the_share_is_refused_and_the_process_lives() -> None:
    found = subprocess.run(
        [sys.executable, "-c", HELD], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["refused", str(1024**2), "True"]


def test_the_workers_of_a_machine_share_its_memory_where_there_is_no_gpu(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(memory, "hold", seen.append)
    monkeypatch.setattr(memory, "GPU_DRIVER", tmp_path / "none")
    settings.ENVIRONMENT = SimpleNamespace(memory=8_000, inference_workers=4)
    memory.hold_to_share()
    assert seen == [2_000 + memory.SPARE]
    monkeypatch.setattr(memory, "GPU_DRIVER", tmp_path)
    memory.hold_to_share()
    assert len(seen) == 1


def test_a_worker_is_held_before_it_takes_work(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(memory, "hold_to_share", lambda: order.append("held"))
    monkeypatch.setattr(memory, "share_arenas", lambda: None)
    monkeypatch.setattr(worker.gc, "set_threshold", lambda _: None)
    monkeypatch.setattr(worker, "Membership", lambda *_, **__: _Member(order))
    one = worker.Worker("inference@one")
    monkeypatch.setattr(one, "_open_line", lambda: order.append("line"))
    one.begin()
    assert order == ["held", "line", "joined"]


class _Member:
    def __init__(self, order: list[str]) -> None:
        self.order = order

    def join_in(self) -> None:
        self.order.append("joined")
