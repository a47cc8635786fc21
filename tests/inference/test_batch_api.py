from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from inference import batches, given, views
from inference.batch import BatchRun
from inference.cache import ModelCache
from registry import store
from registry.models import ModelVersion, Node, Task
from registry.scheduler import dispatch
from tests.conftest import client_of
from tests.inference import tiny

BATCH = "/api/v1/inference/batch"
TEXT = {"type": "string"}
PAIRS = {
    "inputs": {"type": "object", "properties": {"smiles": TEXT, "sequence": TEXT}},
    "outputs": {"type": "object", "properties": {"affinity": {"type": "number"}}},
}


@pytest.fixture
def serving(
    inference_node: Node, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that runs what was placed whenever the waiting request looks away."""

    def work(seconds: float) -> None:
        dispatch()
        for task in Task.objects.placed().select_related("node"):
            assert task.node is not None
            BatchRun(task, task.node, cache).run()

    waits = batches.wait_until_over
    monkeypatch.setattr(
        views.batches,
        "wait_until_over",
        lambda task, seconds: waits(task, seconds, sleep=work),
    )


def post(client: APIClient, body: Any, **headers: str) -> Any:
    return client.post(BATCH, body, format="json", headers=headers)


def numbers(count: int) -> dict[str, Any]:
    return {"model": "tiny", "inputs": [{"x": n} for n in range(count)]}


def test_a_small_batch_is_answered_at_once(
    version: ModelVersion, serving: None, api: APIClient
) -> None:
    items = [{"x": 1}, {"x": "bad"}, {"x": 3}]
    response = post(api, {"model": "tiny", "inputs": items})
    assert response.status_code == 200
    body = response.json()
    assert [one["success"] for one in body["results"]] == [True, False, True]
    assert [one["input"] for one in body["results"]] == items
    assert body["results"][2]["output"] == {"y": 6}
    counts = [body[name] for name in ("total_count", "success_count", "failed_count")]
    assert counts == [3, 2, 1]
    task = api.get(f"/api/v1/tasks/{body['task_id']}").json()
    assert (task["kind"], task["state"]) == ("predict", "completed")
    file = api.get(f"/api/v1/tasks/{body['task_id']}/files/results.jsonl")
    rows = b"".join(file.streaming_content).splitlines()  # type: ignore[attr-defined]
    assert [json.loads(row) for row in rows] == body["results"]


def test_a_batch_may_wait_for_other_tasks_and_then_nobody_waits_for_it(
    version: ModelVersion, serving: None, api: APIClient, submit: Callable[..., Task]
) -> None:
    other = submit()
    asked = {"depends_on": {"afterany": [str(other.pk)]}, "priority": 3, "tags": ["t"]}
    response = post(api, {**numbers(2), **asked, "time_limit": 60})
    assert response.status_code == 202
    task = response.json()
    assert task["depends_on"]["afterany"] == [str(other.pk)]
    assert (task["priority"], task["tags"], task["time_limit"]) == (3, ["t"], 60)
    assert (task["state"], len(task["waiting_for"])) == ("pending", 1)
    assert Task.objects.get(pk=task["id"]).template == "predict tiny"


def test_what_a_batch_depends_on_must_be_there(
    version: ModelVersion, api: APIClient
) -> None:
    response = post(api, {**numbers(2), "depends_on": ["999"]})
    assert (response.status_code, response.json()["code"]) == (422, "unknown_task")
    assert not Task.objects.exists()


def test_pairs_are_answered_with_their_binding_affinity(
    db: None, serving: None, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.make_version("dta", signature=PAIRS)
    monkeypatch.setattr(tiny.Predictor, "encode", lambda self, item: item["smiles"])
    monkeypatch.setattr(
        tiny.Predictor,
        "predict",
        lambda self, encoded: [{"affinity": float(len(one))} for one in encoded],
    )
    pairs: list[Any] = [{"protein": "MKV", "ligand": "CCO"}, {"protein": "MKV"}]
    body = post(api, {"protein_ligand_pairs": pairs, "model": "dta"}).json()
    assert body["results"][0] == {
        "row": 1, "protein": "MKV", "ligand": "CCO", "success": True,
        "binding_affinity": 3.0,
    }  # fmt: skip
    assert body["results"][1]["success"] is False
    assert body["results"][1]["ligand"] is None
    assert body["results"][1]["error"]["code"]
    assert body["failed_count"] == 1


def test_pairs_need_a_model_of_affinity(
    version: ModelVersion, serving: None, api: APIClient
) -> None:
    body = {"protein_ligand_pairs": [{"protein": "M", "ligand": "C"}]}
    assert post(api, {**body, "model": "tiny"}).json()["code"] == "invalid"
    assert post(api, body).json()["code"] == "no_model_fits"
    tiny.make_version("dta", 3.0, signature=PAIRS)
    assert post(api, body).json()["total_count"] == 1


def test_a_model_that_cannot_load_fails_all_items_quickly(
    version: ModelVersion, serving: None, api: APIClient
) -> None:
    (store.model_path(version.digest) / "config.json").write_text("{}")
    body = post(api, numbers(3)).json()
    assert (body["success_count"], body["failed_count"]) == (0, 3)
    assert {one["error"]["code"] for one in body["results"]} == {"model_unavailable"}


def test_without_a_worker_it_is_accepted_and_waits(
    version: ModelVersion, api: APIClient
) -> None:
    response = post(api, numbers(3))
    assert response.status_code == 202
    task = response.json()
    assert response["Location"] == f"/api/v1/tasks/{task['id']}"
    assert task["state"] == "pending"
    assert task["waiting_for"] == ["No inference worker is up."]
    assert "inputs" not in task["params"]


@pytest.mark.parametrize("prefer", ["wait=0", "respond-async"])
def test_who_prefers_not_to_wait_does_not(
    version: ModelVersion, serving: None, api: APIClient, prefer: str
) -> None:
    assert post(api, numbers(3), Prefer=prefer).status_code == 202


def test_over_a_thousand_items_are_not_waited_for(
    version: ModelVersion, serving: None, api: APIClient
) -> None:
    response = post(api, numbers(1001))
    assert response.status_code == 202
    assert response.json()["params"]["count"] == 1001


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (numbers(0), "invalid"),
        ({"model": "tiny"}, "invalid"),
        ({**numbers(1), "protein_ligand_pairs": [{}]}, "invalid"),
        ({"model": "none", "inputs": [{"x": 1}]}, "unknown_model"),
        ({**numbers(1), "other": 1}, "invalid"),
        (numbers(10_001), "too_many_items"),
    ],
)
def test_a_wrong_batch_makes_no_task(
    version: ModelVersion, api: APIClient, body: Any, code: str
) -> None:
    response = post(api, body)
    assert response.status_code in (404, 422)
    assert response.json()["code"] == code
    assert not Task.objects.exists()
    assert not list((store.root() / "aside").iterdir())


def test_the_same_idempotency_key_makes_one_task(
    version: ModelVersion, serving: None, api: APIClient
) -> None:
    key = {"Idempotency-Key": "one"}
    first = post(api, numbers(2), **key).json()
    second = post(api, numbers(2), **key).json()
    assert first == second
    assert Task.objects.count() == 1
    other = post(api, numbers(3), **key)
    assert other.json()["code"] == "idempotency_key_reused"


def test_it_needs_the_scope_predict_and_is_seen_by_its_owner_alone(
    version: ModelVersion, api: APIClient, alice: User, bob: User
) -> None:
    assert post(client_of(alice, "read", "submit"), numbers(1)).status_code == 403
    task = post(api, numbers(1)).json()["id"]
    assert client_of(bob).get(f"/api/v1/tasks/{task}").status_code == 404


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("", 30), ("wait=5", 5), ("respond-async, wait=7", 7), ("wait=99999", 60),
        ("wait=x", 30), ("respond-async", 0), ("wait = 3", 3),
    ],
)  # fmt: skip
def test_the_wish_to_wait_is_read_and_bounded(prefer: str, seconds: float) -> None:
    assert batches.wished_wait(prefer) == seconds


def test_waiting_ends_at_the_time_and_looks_less_and_less(
    version: ModelVersion, alice: User
) -> None:
    now, waits = [0.0], []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    task = Task.objects.submit(kind="predict", lane="inference", owner=alice)
    assert not batches.wait_until_over(
        task.pk, 5.0, sleep=sleep, monotonic=lambda: now[0]
    )
    assert sum(waits) == pytest.approx(5.0)
    assert waits[0] < waits[10]
    assert max(waits) <= 0.25


def test_when_too_many_wait_the_next_is_not_held(
    version: ModelVersion, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def acquire(self, blocking: bool) -> bool:
            return False

    monkeypatch.setattr(batches, "_waiting", Full())
    task = Task.objects.submit(kind="predict", lane="inference", owner=alice)
    assert not batches.wait_until_over(task.pk, 60.0, sleep=pytest.fail)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("d.csv", b"x\n", "bad_data"),
        ("d.csv", b"", "bad_data"),
        ("d.csv.gz", b"\x1f\x8b\x08\x00garbage", "bad_data"),
        ("d.csv", b"x,y\n1\n", "bad_data"),
        ("d.csv", b"x,x\n1,2\n", "bad_data"),
        ("d.csv", b'x\n"open\n', "bad_data"),
        ("d.csv", b"x\n\xff\xfe\n", "bad_data"),
        ("d.csv", b"x\n" + b"9" * 200_000 + b"\n", "bad_data"),
        ("d.csv", b"x\n" + b"1\n" * 21, "too_many_items"),
        ("d.parquet", b"PAR1 and not more", "bad_data"),
        ("d.smi", b"# nothing\n", "bad_data"),
        ("d.fasta", b"MKV\n", "bad_data"),
        ("d.jsonl", b'{"x": 1}\n[1]\n', "bad_data"),
        ("d.jsonl", b'{"x": NaN}\n', "bad_data"),
        ("d.zip", b"PK", "bad_data"),
    ],
)
def test_a_data_set_that_cannot_be_used_makes_no_task(
    version: ModelVersion,
    api: APIClient,
    upload: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: bytes,
    code: str,
) -> None:
    monkeypatch.setattr(given, "MOST_ROWS", 20)
    response = post(api, {"model": "tiny", "dataset": upload(name, content)})
    assert response.status_code == 422
    assert response.json()["code"] == code
    assert not Task.objects.exists()


def test_only_an_own_sealed_upload_is_read(
    version: ModelVersion, api: APIClient, upload: Callable[..., str], bob: User
) -> None:
    theirs = upload("d.csv", b"x\n1\n", owner=bob)
    sealing = upload("d.csv", b"x\n1\n", state="sealing")
    for dataset, code in (
        (theirs, "unknown_dataset"), ("nothing", "unknown_dataset"),
        ("9" * 30, "unknown_dataset"), (sealing, "dataset_not_ready"),
    ):  # fmt: skip
        assert post(api, {"model": "tiny", "dataset": dataset}).json()["code"] == code


@pytest.mark.parametrize("kind", ["array", "string", "boolean", ["string", "null"]])
def test_an_output_that_is_no_number_ranks_nothing(
    version: ModelVersion, api: APIClient, kind: Any
) -> None:
    outputs = {"y": {"type": "number"}, "z": {"type": kind}, "open": {}}
    version.signature = {"inputs": {}, "outputs": {"properties": outputs}}
    version.save()
    asked = {"model": "tiny", "inputs": [{"x": 1}], "top_k": 1}
    refused = api.post(BATCH, {**asked, "rank_by": "z"}, format="json")
    assert (refused.status_code, list(refused.json()["errors"])) == (422, ["rank_by"])
    assert "'z' of tiny:1 is no number" in refused.json()["detail"]
    for name in ("y", "open"):
        assert (
            api.post(BATCH, {**asked, "rank_by": name}, format="json").status_code
            == 202
        )
