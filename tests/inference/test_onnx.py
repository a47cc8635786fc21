"""ONNX files as models: imported, looked through, described by their graph, and served."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from onnx import TensorProto, helper, numpy_helper
from rest_framework.test import APIClient

from inference import loading, onnx_model, predictor, stop, tuning, worker
from inference.batch import BatchRun
from inference.cache import Facts
from inference.onnx_items import Rows
from inference.onnx_model import Predictor
from registry import store
from registry.errors import BadItem, Problem
from registry.models import Model, ModelVersion, Task
from registry.states import State
from tests.inference.onnx_files import (
    FLOAT,
    INT64,
    STRING,
    WIDTH,
    model,
    node,
    perceptron,
    weight,
)
from tests.registry.model_archives import tar, zipped

MODELS, PREDICT = "/api/v1/models", "/api/v1/inference/predict"
ROWS = [[n / 7 + k for k in range(WIDTH)] for n in range(5)]


def send(api: APIClient, content: bytes, filename: str = "m.onnx") -> Any:
    body = {"file": SimpleUploadedFile(filename, content), "name": "net"}
    return api.post(MODELS, body, format="multipart")


def examined(proto: onnx.ModelProto | bytes) -> Predictor:
    root = store.aside()
    root.mkdir(parents=True)
    content = proto if isinstance(proto, bytes) else proto.SerializeToString()
    (root / "model.onnx").write_bytes(content)
    return Predictor.examine(root)


def answer(found: Predictor, *items: Any) -> list[dict[str, Any]]:
    return found.predict([found.encode(one) for one in items])


@pytest.fixture
def net(api: APIClient) -> ModelVersion:
    response = send(api, perceptron().SerializeToString())
    assert response.status_code == 201, response.json()
    return ModelVersion.objects.get()


def test_an_onnx_file_becomes_a_version_described_by_its_graph(
    net: ModelVersion, api: APIClient
) -> None:
    body = api.get(f"{MODELS}/net/versions/1").json()
    assert (body["recipe"], body["params"], body["metrics"]) == ("onnx", {}, {})
    numbers = {"type": "array", "items": {"type": "number"}}
    signature = body["signature"]
    assert signature["inputs"] == {
        "type": "object",
        "properties": {"x": {**numbers, "minItems": WIDTH, "maxItems": WIDTH}},
        "required": ["x"],
        "additionalProperties": False,
    }
    assert signature["outputs"]["properties"] == {
        "y": {**numbers, "minItems": 2, "maxItems": 2}
    }
    assert signature["tensors"] == {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", WIDTH]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 2]}],
        "rows": "together",
    }
    assert len(signature["examples"]) == 2
    assert body["weights_sha256"] == store.file_sha256(
        store.model_path(body["digest"]) / "model.onnx"
    )
    assert list((store.root() / "aside").glob("*")) == []


def test_it_answers_like_the_graph_online_and_in_a_batch(
    net: ModelVersion, here: worker.Worker, api: APIClient
) -> None:
    wanted = np.tanh(np.array(ROWS, np.float32) @ weight())
    items: list[Any] = [{"x": one} for one in ROWS]
    bad = [
        {"x": [1.0]},
        {"x": "a"},
        {},
        {"x": ROWS[0], "z": 1},
        3,
        {"x": [None] * WIDTH},
    ]
    body = api.post(PREDICT, {"model": "net", "inputs": items + bad}, format="json")
    outputs = body.json()["outputs"]
    for one, row in zip(outputs, wanted, strict=False):
        assert one["y"] == pytest.approx(row.tolist(), abs=1e-6)
    assert [one["error"]["code"] for one in outputs[5:]] == ["bad_item"] * 6
    guessed = api.post(PREDICT, {"inputs": items[:1]}, format="json").json()
    assert guessed["model"] == "net"


def test_a_batch_task_is_answered_by_it(
    net: ModelVersion,
    here: worker.Worker,
    api: APIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BatchRun, "_keep_beating", lambda self: None)
    items: list[Any] = [*({"x": one} for one in ROWS), {"x": [1.0]}]
    asked = {"model": "net", "inputs": items}
    at_once = {"Prefer": "respond-async"}
    path = "/api/v1/inference/batch"
    response = api.post(path, asked, format="json", headers=at_once)
    task = Task.objects.get(pk=response.json()["id"])
    assert task.node is not None
    BatchRun(task, task.node, here.cache).run()
    task.refresh_from_db()
    assert task.state == State.COMPLETED
    counts = [task.result[name] for name in ("success_count", "failed_count")]
    assert counts == [5, 1]
    results = store.task_path(task.pk) / "files" / "results.jsonl"
    first = json.loads(results.read_text().splitlines()[0])
    assert first["output"] == here.predict(net.pk, items[:1])[0]


def test_it_is_served_without_torch(net: ModelVersion) -> None:
    code = (
        "import sys, pathlib; from inference.onnx_model import Predictor;"
        "from registry import formats;"
        "one = Predictor.load(pathlib.Path(sys.argv[1]));"
        f"one.predict([one.encode({{'x': [1.0] * {WIDTH}}})]);"
        "sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    )
    directory = str(store.model_path(net.digest))
    subprocess.run([sys.executable, "-c", code, directory], check=True)


def test_any_archive_of_it_is_taken_and_an_export_comes_back_alike(
    net: ModelVersion, api: APIClient
) -> None:
    content = perceptron().SerializeToString()
    for pack in (tar, zipped):
        response = send(api, pack({"model.onnx": content}), "m.zip")
        assert response.json()["digest"] == net.digest
    download: Any = api.get(f"{MODELS}/net/versions/1/download")
    exported = b"".join(download.streaming_content)
    Model.objects.all().delete()
    assert send(api, exported, "x").json()["digest"] == net.digest


def test_metrics_and_examples_may_come_along(api: APIClient, net: ModelVersion) -> None:
    content = perceptron().SerializeToString()
    signature = {**net.signature, "examples": [{"x": ROWS[0]}]}
    files = {
        "model.onnx": content,
        "metrics.json": b'{"rmse": 0.5}',
        "signature.json": json.dumps(signature).encode(),
    }
    body = send(api, tar(files)).json()
    assert body["metrics"] == {"rmse": 0.5}
    assert body["signature"]["examples"] == [{"x": ROWS[0]}]


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": {"type": "object"}}, {"outputs": {"type": "object"}}, {"tensors": {}},
        {"examples": [{"x": [1]}]}, {"examples": 3},
    ],
)  # fmt: skip
def test_a_signature_that_is_not_that_of_the_graph_is_refused(
    api: APIClient, net: ModelVersion, change: dict[str, Any]
) -> None:
    content = perceptron().SerializeToString()
    signature = json.dumps({**net.signature, **change}).encode()
    response = send(api, tar({"model.onnx": content, "signature.json": signature}))
    assert (response.status_code, response.json()["code"]) == (422, "bad_model")


def external() -> onnx.ModelProto:
    found = perceptron()
    onnx.external_data_helper.set_external_data(found.graph.initializer[0], "secret")
    found.graph.initializer[0].ClearField("raw_data")
    return found


def hidden_external() -> onnx.ModelProto:
    """The same inside an attribute of a node in a branch."""
    outside = numpy_helper.from_array(np.ones(1, np.float32), "o")
    onnx.external_data_helper.set_external_data(outside, "/etc/passwd")
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=outside)],
        "inner", [], [helper.make_tensor_value_info("c", FLOAT, [1])],
    )  # fmt: skip
    branch = helper.make_node("If", ["k"], ["y"], then_branch=inner, else_branch=inner)
    return model([branch], [("k", TensorProto.BOOL, [])], [("y", FLOAT, [1])])


def custom() -> onnx.ModelProto:
    one = helper.make_node("Evil", ["x"], ["y"], domain="my.ops")
    told = ("x", FLOAT, ["b", 2]), ("y", FLOAT, ["b", 2])
    return model([one], [told[0]], [told[1]], domains=["my.ops"])


def hidden_custom() -> onnx.ModelProto:
    """The same inside a function that the file brings."""
    one = helper.make_node("Evil", ["x"], ["y"], domain="my.ops")
    opsets = [helper.make_opsetid("my.ops", 1)]
    function = helper.make_function("own", "F", ["x"], ["y"], [one], opsets)
    call = helper.make_node("F", ["x"], ["y"], domain="own")
    told = ("x", FLOAT, ["b", 2]), ("y", FLOAT, ["b", 2])
    domains = ["own", "my.ops"]
    return model([call], [told[0]], [told[1]], functions=[function], domains=domains)


def doubled(depth: int) -> onnx.ModelProto:
    """A function that calls one twice, which calls one twice, and so on."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    inner = [helper.make_node("Tanh", ["x"], ["y"])]
    functions = [helper.make_function("own", "F0", ["x"], ["y"], inner, opsets)]
    for n in range(1, depth):
        calls = [
            helper.make_node(f"F{n - 1}", [x], [y], domain="own")
            for x, y in (("x", "m"), ("m", "y"))
        ]
        functions.append(
            helper.make_function("own", f"F{n}", ["x"], ["y"], calls, opsets)
        )
    call = helper.make_node(f"F{depth - 1}", ["x"], ["y"], domain="own")
    told = ("x", FLOAT, ["b", 2]), ("y", FLOAT, ["b", 2])
    return model([call], [told[0]], [told[1]], functions=functions, domains=["own"])


def overloaded(depth: int) -> onnx.ModelProto:
    """The same, and a harmless function of the last one's name under another overload."""
    found = doubled(depth)
    harmless = onnx.FunctionProto()
    harmless.CopyFrom(found.functions[0])
    harmless.name = found.functions[-1].name
    found.functions[-1].overload = found.graph.node[0].overload = "h"
    found.functions.append(harmless)
    found.ir_version = 10
    return found


def calls_itself() -> onnx.ModelProto:
    opsets = [helper.make_opsetid("own", 1)]
    inner = [helper.make_node("F", ["x"], ["y"], domain="own")]
    function = helper.make_function("own", "F", ["x"], ["y"], inner, opsets)
    call = helper.make_node("F", ["x"], ["y"], domain="own")
    told = ("x", FLOAT, ["b", 2]), ("y", FLOAT, ["b", 2])
    return model([call], [told[0]], [told[1]], functions=[function], domains=["own"])


def terabyte() -> onnx.ModelProto:
    size = numpy_helper.from_array(np.array([10**12], np.int64), "n")
    nodes = [
        helper.make_node("ConstantOfShape", ["n"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["s"], keepdims=0),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    told = ("x", FLOAT, ["b", 1]), ("y", FLOAT, ["b", 1])
    return model(nodes, [told[0]], [told[1]], [size])


def endless(beyond: float = -1e9) -> onnx.ModelProto:
    """A loop that never ends if a number is beyond that one, in the standard's own words."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Identity", ["v"], ["w"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", FLOAT, None),
        ],
    )
    limit = numpy_helper.from_array(np.array(beyond, np.float32), "limit")
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "limit"], ["is_beyond"]),
        helper.make_node("Loop", ["", "is_beyond", "x"], ["y"], body=body),
    ]
    told = ("x", FLOAT, ["b", 2]), ("y", FLOAT, ["b", 2])
    return model(nodes, [told[0]], [told[1]], [limit])


def no_such_operator() -> onnx.ModelProto:
    told = ("x", FLOAT, ["b", 2]), ("y", FLOAT, ["b", 2])
    return model([node("Nonsense")], [told[0]], [told[1]])


def named_error() -> onnx.ModelProto:
    one = helper.make_node("Tanh", ["x"], ["error"])
    return model([one], [("x", FLOAT, ["b", 2])], [("error", FLOAT, ["b", 2])])


def complex_numbers() -> onnx.ModelProto:
    kind = TensorProto.COMPLEX64
    told = ("x", kind, ["b", 2]), ("y", kind, ["b", 2])
    return model([node("Identity")], [told[0]], [told[1]])


def no_input() -> onnx.ModelProto:
    one = helper.make_node("RandomNormal", [], ["y"], shape=[2])
    return model([one], [], [("y", FLOAT, [2])])


HARM: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "weights in another file": (external, "unsafe_model"),
    "the same in a branch": (hidden_external, "unsafe_model"),
    "a custom operator": (custom, "unsafe_model"),
    "the same in a function": (hidden_custom, "unsafe_model"),
    "a terabyte": (terabyte, "bad_model"),
    "functions that double thirty times": (lambda: doubled(30), "bad_model"),
    "the same under an overload": (lambda: overloaded(30), "bad_model"),
    "a function that calls itself": (calls_itself, "bad_model"),
    "an unknown operator": (no_such_operator, "bad_model"),
    "an output named error": (named_error, "bad_model"),
    "complex numbers": (complex_numbers, "bad_model"),
    "no input": (no_input, "bad_model"),
}


@pytest.mark.parametrize(("make", "code"), HARM.values(), ids=HARM)
def test_a_harmful_graph_is_refused_and_nothing_is_left(
    api: APIClient, make: Callable[[], onnx.ModelProto], code: str
) -> None:
    response = send(api, make().SerializeToString())
    body = response.json()
    assert (response.status_code, body["code"]) == (422, code), body
    for secret in (str(store.root()), "Traceback", "/etc/passwd"):
        assert secret not in response.content.decode()
    assert not Model.objects.exists()
    assert list((store.root() / "aside").glob("*")) == []
    assert not (store.root() / "models").exists()


def test_a_graph_that_never_ends_is_refused(api: APIClient) -> None:
    response = send(api, endless().SerializeToString())
    assert (response.status_code, response.json()["code"]) == (422, "bad_model")
    assert "did not end within 5 s" in response.json()["detail"]


def test_an_item_for_which_a_loop_never_ends_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_model, "LONGEST", 0.3)
    found = examined(endless(beyond=100.0))
    assert found.has_loop
    facts = Facts(1, "net:1", "onnx", "d", 1)
    items = [{"x": [1.0, 2.0]}, {"x": [101.0, 2.0]}]
    good, bad = predictor.answer(found, items, facts)
    assert good == {"y": [1.0, 2.0]}
    assert "did not end" in bad["error"]["detail"]


def test_an_item_whose_answer_is_longer_than_any_that_is_given_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_model, "MOST", 100)
    found = examined(
        model(
            [node("ConstantOfShape")],
            [("x", INT64, [2])],
            [("y", FLOAT, [None, None])],
        )
    )
    facts = Facts(1, "net:1", "onnx", "d", 1)
    items = [{"x": [10, 10]}, {"x": [101, 1]}, {"x": [1, 2]}]
    good, bad, other = predictor.answer(found, items, facts)
    assert (np.shape(good["y"]), other) == ((10, 10), {"y": [[0.0, 0.0]]})
    assert "101 values" in bad["error"]["detail"]


def test_nobody_who_has_left_is_computed_for_in_the_next_of_several_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = examined(
        model(
            [node("ConstantOfShape")],
            [("x", INT64, [2])],
            [("y", FLOAT, [None, None])],
        )
    )
    wanted, passes, run = stop.Stop(), list[Any](), found._pass

    def leave(given: Any) -> Any:
        passes.append(given)
        wanted.now()
        return run(given)

    monkeypatch.setattr(found, "_pass", leave)
    with wanted, pytest.raises(stop.Stopped):
        found.predict([found.encode({"x": [1, 2]})] * 3)
    assert len(passes) == 1


@pytest.mark.parametrize("at", [0, 10, 57, 130])
def test_a_file_that_is_cut_or_flipped_is_refused_or_still_a_graph(
    api: APIClient, at: int
) -> None:
    whole = perceptron().SerializeToString()
    cut = send(api, whole[: at + 5])
    assert (cut.status_code, cut.json()["code"]) == (422, "bad_model")
    flipped = bytearray(whole)
    flipped[at] ^= 0x10
    assert send(api, bytes(flipped)).status_code in (201, 422)


@pytest.mark.parametrize("content", [b"hello, I am a text", b"\x08\x09", b"\0" * 999])
def test_what_is_no_graph_is_refused(api: APIClient, content: bytes) -> None:
    response = send(api, content)
    assert (response.status_code, response.json()["code"]) == (422, "bad_model")


def test_an_onnx_file_over_the_limit_is_413(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.model_files.LONGEST_ONNX", 100)
    response = send(api, perceptron().SerializeToString())
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("config", "status"),
    [
        ({"recipe": "onnx", "params": {}}, 201),
        ({"recipe": "onnx", "params": {"a": 1}}, 422),
        ({"recipe": "tabular", "params": {}}, 422), ({}, 422),
    ],
)  # fmt: skip
def test_a_config_beside_it_says_what_it_is(
    api: APIClient, config: dict[str, Any], status: int
) -> None:
    content = perceptron().SerializeToString()
    files = {"model.onnx": content, "config.json": json.dumps(config).encode()}
    assert send(api, tar(files)).status_code == status


def test_rows_that_touch_each_other_are_run_one_by_one() -> None:
    told = ("x", FLOAT, ["b", 2]), ("y", FLOAT, ["b", 2])
    mean = helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1)
    less = helper.make_node("Sub", ["x", "m"], ["d"])
    add = helper.make_node("Add", ["d", "x"], ["y"])
    found = examined(model([mean, less, add], [told[0]], [told[1]]))
    assert found.rows is Rows.ALONE
    assert answer(found, {"x": [1.0, 2.0]}, {"x": [5.0, 0.0]}) == [
        {"y": [1.0, 2.0]}, {"y": [5.0, 0.0]},
    ]  # fmt: skip


def test_a_fixed_first_axis_of_one_is_not_asked_for() -> None:
    found = examined(perceptron(batch=1))
    assert found.rows is Rows.ALONE
    assert len(answer(found, {"x": ROWS[0]}, {"x": ROWS[1]})) == 2


def test_a_graph_without_rows_takes_whole_tensors() -> None:
    told = ("x", FLOAT, [2, 3]), ("y", FLOAT, [2, 3])
    found = examined(model([node("Neg")], [told[0]], [told[1]]))
    assert found.rows is Rows.WHOLE
    item = {"x": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]}
    (one,) = answer(found, item)
    assert one == {"y": [[-1.0, -2.0, -3.0], [-4.0, -5.0, -6.0]]}
    scalar = examined(model([node("Neg")], [("x", FLOAT, [])], [("y", FLOAT, [])]))
    assert answer(scalar, {"x": 2.0}) == [{"y": -2.0}]


def test_items_of_several_lengths_are_answered_in_order() -> None:
    told = ("x", INT64, ["b", "n"]), ("y", INT64, ["b"])
    total = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    found = examined(model([total], [told[0]], [told[1]], [axes]))
    assert found.rows is Rows.TOGETHER
    items = [{"x": list(range(n))} for n in (3, 1, 5, 3)]
    assert [one["y"] for one in answer(found, *items)] == [3, 0, 10, 3]


def test_several_inputs_are_named_by_each_item() -> None:
    inputs = ("a", FLOAT, ["b", 2]), ("c", FLOAT, ["b"])
    wide = helper.make_node("Unsqueeze", ["c", "one"], ["d"])
    add = helper.make_node("Add", ["a", "d"], ["y"])
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    found = examined(model([wide, add], inputs, [("y", FLOAT, ["b", 2])], [one]))
    assert answer(found, {"a": [1, 2], "c": 0.5}) == [{"y": [1.5, 2.5]}]
    with pytest.raises(BadItem, match=r"c: is missing"):
        found.encode({"a": [1, 2]})


def one_input(kind: int, *shape: Any) -> Predictor:
    told = ("x", kind, ["b", *shape]), ("y", kind, ["b", *shape])
    return examined(model([node("Identity")], [told[0]], [told[1]]))


def test_texts_pass_through() -> None:
    found = one_input(STRING, 2)
    assert answer(found, {"x": ["ü", ""]}) == [{"y": ["ü", ""]}]
    for wrong in (["a", 1], [1, 2], "ab", [None, "a"]):
        with pytest.raises(BadItem):
            found.encode({"x": wrong})


@pytest.mark.parametrize(
    ("kind", "shape", "wrong"),
    [
        (FLOAT, [2], [[1.0], 1.0]), (FLOAT, [2], [True, 1.0]), (FLOAT, [2], ["1", "2"]),
        (FLOAT, [2], [1e39, 0]), (FLOAT, [2], [10**400, 0]), (FLOAT, [2], None),
        (FLOAT, [2], {"a": 1}), (FLOAT, [2], [1, 2, 3]), (FLOAT, [2], []),
        (FLOAT, [], [1.0]), (FLOAT, [], "a"), (FLOAT, [], True), (FLOAT, ["n"], []),
        (INT64, [2], [1.5, 2]), (INT64, [2], [1.0, 2.0]), (INT64, [2], [2**63, 1]),
        (INT64, [2], [2**64, 1]), (INT64, [], True),
        (TensorProto.INT8, [1], [128]), (TensorProto.UINT8, [1], [-1]),
        (TensorProto.BOOL, [1], [1]), (TensorProto.BOOL, [1], [None]),
        (FLOAT, [2, 2], [[1, 2], [3]]), (FLOAT, [2, 2], [1, 2]),
    ],
)  # fmt: skip
def test_what_the_input_cannot_hold_is_the_items_error(
    kind: int, shape: list[Any], wrong: Any
) -> None:
    found = one_input(kind, *shape)
    with pytest.raises(BadItem, match="x: ") as caught:
        found.encode({"x": wrong})
    assert len(caught.value.detail) < 200


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (TensorProto.FLOAT16, 1.5), (TensorProto.DOUBLE, 1e300), (INT64, -(2**63)),
        (TensorProto.UINT8, 255), (TensorProto.INT16, -5), (TensorProto.BOOL, True),
        (FLOAT, 3),
    ],
)  # fmt: skip
def test_every_type_that_json_can_hold_passes_through(kind: int, value: Any) -> None:
    assert answer(one_input(kind, 1), {"x": [value]}) == [{"y": [value]}]


def test_an_infinite_output_is_its_items_error_alone(
    api: APIClient, here: worker.Worker
) -> None:
    told = ("x", FLOAT, ["b", 1]), ("y", FLOAT, ["b", 1])
    send(api, model([node("Log")], [told[0]], [told[1]]).SerializeToString())
    inputs = [{"x": [1.0]}, {"x": [0.0]}, {"x": [-1.0]}]
    body = api.post(PREDICT, {"model": "net", "inputs": inputs}, format="json").json()
    codes = [one.get("error", {}).get("code") for one in body["outputs"]]
    assert codes == [None, "internal", "internal"]


def test_it_is_tuned_and_served_on_its_own_engine(
    net: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "MOMENT", 0.001)
    monkeypatch.setattr(tuning, "ROUNDS", 1)
    out = io.StringIO()
    call_command("tune", "net", "--json", stdout=out)
    verdict = json.loads(out.getvalue())
    assert verdict["name"] == "onnx"
    assert verdict["batch"] in tuning.SIZES
    assert verdict["candidates"][0]["largest_error"] <= tuning.TOLERANCE
    facts = loading.look(net.pk)
    assert facts is not None
    assert (facts.engine, facts.batch) == ("onnx", verdict["batch"])
    assert isinstance(loading.load(facts), Predictor)
    out = io.StringIO()
    call_command("tune", "net", stdout=out)
    assert "net:1: onnx" in out.getvalue()


def test_a_flipped_bit_in_the_store_is_seen_at_load(net: ModelVersion) -> None:
    file = store.model_path(net.digest) / "model.onnx"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    facts = loading.look(net.pk)
    assert facts is not None
    with pytest.raises(Problem) as caught:
        loading.load(facts)
    assert caught.value.code == "model_unavailable"


def test_onnx_is_no_recipe_that_could_be_trained(api: APIClient) -> None:
    names = [one["name"] for one in api.get("/api/v1/recipes").json()["results"]]
    assert "onnx" not in names
