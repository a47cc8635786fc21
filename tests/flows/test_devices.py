"""GPUs that a file tells of, through a real stack: given out by index, and not when others use them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.resources import GIB
from tests.flows.conftest import Stack
from tests.flows.test_scripts import until_final

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

OUTSIDE = {"pid": 999_999_999, "user": "alice", "name": "python3", "memory": 3 * GIB}


def tell(file: Path, *busy: int) -> None:
    gpus: list[dict[str, Any]] = [{"index": index} for index in range(2)]
    for index in busy:
        gpus[index]["processes"] = [OUTSIDE]
    aside = file.with_suffix(".part")
    aside.write_text(json.dumps(gpus))
    aside.replace(file)


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    file = tmp_path / "gpus.json"
    tell(file, 0)
    (tmp_path / "data").mkdir()
    stack = Stack(tmp_path / "data", COMPASS_FAKE_GPUS=str(file))
    yield stack
    stack.stop()
    stack.http.close()


def test_a_gpu_with_a_process_from_outside_waits_for_its_end_and_says_so(
    stack: Stack, tmp_path: Path
) -> None:
    def submit() -> str:
        body = {"script": "echo $CUDA_VISIBLE_DEVICES; sleep 600", "lane": "gpu"}
        row = stack.post("/scripts", **body, resources={"cpus": 1, "gpus": 1})
        return str(row["id"])

    def said(task: str) -> str:
        return str(stack.get(f"/tasks/{task}/logs")["text"])

    first, second = submit(), submit()
    stack.until(lambda: said(first) == "1\n", "the free GPU is given out")
    why = stack.until(
        lambda: " ".join(stack.get(f"/tasks/{second}")["waiting_for"]), "it says why"
    )
    assert "process 999999999 (alice, python3, 3.0 GiB)" in why
    tell(tmp_path / "gpus.json")
    stack.until(lambda: said(second) == "0\n", "the other one is free now", 30)

    (node,) = [n for n in stack.get("/nodes")["results"] if n["lane"] == "gpu"]
    assert node["free"]["gpus"] == 0
    stack.post(f"/nodes/{node['name']}/drain", note="a new card")
    for task in (first, second):
        stack.post(f"/tasks/{task}/cancel")
        assert until_final(stack, task)["state"] == "cancelled"
    assert stack.get(f"/nodes/{node['name']}")["state"] == "drained"
