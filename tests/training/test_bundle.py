from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from registry.errors import Problem
from training.bundle import load_bundle, save_bundle

PARTS: dict[str, Any] = {
    "recipe": "affinity",
    "params": {"seed": 1, "epochs": 2},
    "tensors": {"b": torch.arange(6.0).view(2, 3).T, "a": torch.tensor([1, 2])},
    "config": {"vocabulary": ["x", "é"]},
    "signature": {"inputs": {}, "outputs": {}, "examples": [{"x": 1}]},
    "metrics": {"mse": 0.5},
}


def files(directory: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in directory.iterdir()}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    save_bundle(tmp_path / "model", **PARTS)
    bundle = load_bundle(tmp_path / "model")
    assert (bundle.recipe, bundle.params) == (PARTS["recipe"], PARTS["params"])
    assert (bundle.config, bundle.metrics) == (PARTS["config"], PARTS["metrics"])
    assert bundle.signature == PARTS["signature"]
    assert torch.equal(bundle.tensors["b"], PARTS["tensors"]["b"])
    assert torch.equal(bundle.tensors["a"], PARTS["tensors"]["a"])


def test_a_model_has_four_files_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    save_bundle(tmp_path / "model", **PARTS)
    names = {"config.json", "metrics.json", "model.safetensors", "signature.json"}
    assert set(files(tmp_path / "model")) == names
    assert [one.name for one in tmp_path.iterdir()] == ["model"]


def test_equal_parts_in_another_order_are_the_same_bytes(tmp_path: Path) -> None:
    save_bundle(tmp_path / "one", **PARTS)
    turned = {
        name: dict(reversed(part.items())) if isinstance(part, dict) else part
        for name, part in PARTS.items()
    }
    save_bundle(tmp_path / "other", **turned)
    assert files(tmp_path / "one") == files(tmp_path / "other")


def test_config_names_the_versions(tmp_path: Path) -> None:
    save_bundle(tmp_path / "model", **PARTS)
    head = json.loads((tmp_path / "model" / "config.json").read_bytes())
    assert head["versions"]["torch"] == torch.__version__
    assert head["versions"]["compass"]
    assert head["format"] == 1


def test_a_directory_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("keep")
    with pytest.raises(OSError, match="not empty"):
        save_bundle(tmp_path / "model", **PARTS)
    assert (tmp_path / "model" / "mine").read_text() == "keep"


def test_a_number_that_is_none_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_bundle(tmp_path / "model", **{**PARTS, "metrics": {"mse": float("nan")}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"[1]", b"\xff\xfe"])
def test_a_broken_model_is_unavailable(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    save_bundle(tmp_path / "model", **PARTS)
    path = tmp_path / "model" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(Problem) as caught:
        load_bundle(tmp_path / "model")
    assert caught.value.code == "model_unavailable"


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    save_bundle(tmp_path / "model", **PARTS)
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(Problem, match="format 2"):
        load_bundle(tmp_path / "model")
