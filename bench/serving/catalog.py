"""The servers of the comparison: how each is started and asked, and with how many processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.serving.load import Read, first_output

Body = Callable[[str, Any], Any]


def as_compass(model: str, item: Any) -> Any:
    return {"model": model, "inputs": [item]}


def as_v2(model: str, item: Any) -> Any:
    """The open inference protocol: tensors with a shape, the first axis is that of items."""
    kind = "FP32" if model == "tiny" else "INT64"
    return {
        "inputs": [
            {"name": name, "shape": [1, len(row)], "datatype": kind, "data": row}
            for name, row in item.items()
        ]
    }


def as_inputs(model: str, item: Any) -> Any:
    return {"inputs": [item]}


def first_of_v2(answer: Any) -> float:
    return answer["outputs"][0]["data"][0]  # type: ignore[no-any-return]


def first(answer: Any) -> float:
    return answer[0]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Peer:
    """One kind of server.

    `variants` are what is tried for a model, by name: the arguments of its module, or what Compass's settings are.
    """

    name: str
    variants: Mapping[str, Mapping[str, tuple[str, ...]]]
    path: str = "/predict"
    body: Body = as_inputs
    read: Read = first_output
    is_ours: bool = False  # runs in Compass's own environment
    is_empty: bool = False  # answers nothing; stands beside the table, is no peer
    settings: str = ""

    def address(self, model: str) -> str:
        return self.path.format(model=model)

    def bodies(self, model: str, some: list[Any]) -> list[bytes]:
        return [json.dumps(self.body(model, one)).encode() for one in some]


def _processes(**by_model: tuple[int, ...]) -> dict[str, dict[str, tuple[str, ...]]]:
    return {
        model: {f"x{count}": (str(count),) for count in counts}
        for model, counts in by_model.items()
    }


COMPASS = "compass"
PEERS = (
    Peer(
        COMPASS, _processes(tiny=(1,), dta=(1, 2)), "/api/v1/inference/predict",
        as_compass, is_ours=True,
        settings="`manage.py up` as it comes; for `dta` also COMPASS_INFERENCE_WORKERS=2",
    ),
    Peer(
        "fastapi", _processes(tiny=(1, 2), dta=(1, 2)),
        settings="uvicorn with uvloop and httptools, torch called in the handler",
    ),
    Peer(
        "torchserve", _processes(tiny=(2,), dta=(2,)), "/predictions/{model}",
        settings="2 workers, batches of 64 (tiny) or 8 (dta), 1 ms for them to fill",
    ),
    Peer(
        "litserve", _processes(tiny=(1,), dta=(2,)),
        settings="1 worker (tiny) or 2 (dta), batches of 64 or 8, 1 ms",
    ),
    Peer(
        "ray_serve", _processes(tiny=(1,), dta=(2,)),
        settings="HAProxy in front, 1 replica (tiny) or 2 (dta), batches of 64 or 8, 1 ms",
    ),
    Peer(
        "mlserver", _processes(tiny=(1,), dta=(2,)), "/v2/models/{model}/infer",
        as_v2, first_of_v2,
        settings="in the server's process (tiny) or 2 parallel workers (dta), V2 protocol",
    ),
    Peer(
        "bentoml",
        {
            "tiny": {"x1": ("1",), "batching": ("1", "batching")},
            "dta": {"x2": ("2",), "batching": ("2", "batching")},
        },
        read=first,
        settings="1 worker (tiny) or 2 (dta), alone and with adaptive batching",
    ),
    Peer(
        "empty", _processes(tiny=(1,)), is_ours=True, is_empty=True,
        settings="a Django view that does nothing, on the server that Compass uses",
    ),
)  # fmt: skip
BY_NAME = {peer.name: peer for peer in PEERS}
