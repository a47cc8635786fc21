"""What `POST /training/tasks` takes and refuses, and what the tasks' routes show."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from registry.errors import Problem
from registry.models import Node, Task, Upload
from registry.resources import GIB
from registry.states import State
from tests.conftest import client_of, make_node
from training.models import Metric
from training.preparation import dataset_path

pytestmark = pytest.mark.django_db


@pytest.fixture
def dataset(alice: User, time: Any) -> Upload:
    return Upload.objects.create(
        name="mine", filename="mine.csv", state="sealed", sha256="a" * 64, owner=alice,
        columns=["smiles", "sequence", "affinity"], created_at=time(), touched_at=time(),
    )  # fmt: skip


@pytest.fixture
def body(dataset: Upload) -> dict[str, Any]:
    return {"recipe": "fake", "dataset": str(dataset.pk), "params": {"steps": 2}}


def post(api: APIClient, body: Any, **headers: str) -> Any:
    return api.post("/api/v1/training/tasks", body, format="json", headers=headers)


def test_a_good_request_is_accepted_and_placed_after_its_commit(
    api: APIClient, body: dict[str, Any], django_capture_on_commit_callbacks: Any
) -> None:
    make_node()
    with django_capture_on_commit_callbacks(execute=True):
        answer = post(api, body)
    assert answer.status_code == 202
    task = answer.json()
    assert answer["Location"] == f"/api/v1/tasks/{task['id']}"
    assert task["state"] == "pending"
    assert isinstance(task["id"], str)
    assert Task.objects.get(pk=task["id"]).state == State.ASSIGNED


def test_all_parameters_are_recorded_with_the_presets_under_the_users_values(
    api: APIClient, body: dict[str, Any]
) -> None:
    body["params"] = {"mode": "smoke_test", "seed": 4}
    params = post(api, body).json()["params"]["params"]
    assert params["steps"] == 1
    assert params["seed"] == 4
    assert params["pause"] == 0.0


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"recipe": "unknown"}, "unknown_recipe", "recipe"),
        ({"dataset": "999"}, "unknown_dataset", None),
        ({"dataset": "no_such_name"}, "unknown_dataset", None),
        ({"dataset": "-1"}, "unknown_dataset", None),
        ({"dataset": "9" * 80}, "unknown_dataset", None),
        ({"params": {"steps": 0}}, "invalid", "params.steps"),
        ({"params": {"steps": 10**9}}, "invalid", "params.steps"),
        ({"params": {"steps": "2"}}, "invalid", "params.steps"),
        ({"params": {"steps": 2.5}}, "invalid", "params.steps"),
        ({"params": {"steps": True}}, "invalid", "params.steps"),
        ({"params": {"steps": None}}, "invalid", "params.steps"),
        ({"params": {"extra": 1}}, "invalid", "params.extra"),
        ({"params": {"mode": "slow"}}, "invalid", "params.mode"),
        ({"params": {"mode": ["smoke_test"]}}, "invalid", "params.mode"),
        ({"params": [1]}, "invalid", "params"),
        ({"lane": "tpu"}, "invalid", "lane"),
        ({"lane": "cpu", "resources": {"gpus": 1}}, "invalid", "resources.gpus"),
        ({"resources": {"cpus": 0}}, "invalid", "resources.cpus"),
        ({"resources": {"cpus": 1, "fpgas": 1}}, "invalid", "resources.fpgas"),
        ({"priority": 10**30}, "invalid", "priority"),
        ({"time_limit": 0}, "invalid", "time_limit"),
        ({"max_retries": -1}, "invalid", "max_retries"),
        ({"model_name": "../etc"}, "invalid", "model_name"),
        ({"unknown": 1}, "invalid", "unknown"),
        ({"soft_time_limit": 9, "time_limit": 9}, "invalid", "soft_time_limit"),
        ({"hang_after": 0}, "invalid", "hang_after"),
        ({"resources": {"gpu_memory": 1}}, "invalid", "resources.gpu_memory"),
        ({"depends_on": ["7"]}, "unknown_task", "depends_on.afterok"),
        ({"depends_on": {"before": []}}, "invalid", "depends_on.before"),
    ],
)
def test_bad_input_is_a_422_that_names_the_field_and_makes_nothing(
    api: APIClient,
    body: dict[str, Any],
    change: dict[str, Any],
    code: str,
    field: str | None,
) -> None:
    answer = post(api, body | change)
    assert answer.status_code == 422, answer.content
    problem = answer.json()
    assert problem["code"] == code
    assert problem["detail"]
    assert field is None or field in problem["errors"]
    assert not Task.objects.exists()


def test_a_training_waits_for_others_and_carries_its_limits(
    api: APIClient, body: dict[str, Any]
) -> None:
    first = post(api, body).json()
    asked = {
        "depends_on": [first["id"]], "priority": 5, "time_limit": 60,
        "soft_time_limit": 50, "hang_after": 40,
    }  # fmt: skip
    task = post(api, body | asked).json()
    assert task["depends_on"]["afterok"] == [first["id"]]
    assert first["id"] in task["waiting_for"][0]
    del asked["depends_on"]
    assert {name: task[name] for name in asked} == asked


def test_past_trainings_of_a_recipe_and_mode_tell_how_long_the_next_takes(
    api: APIClient, body: dict[str, Any], node: Node, time: Any
) -> None:
    body["params"] = {"mode": "smoke_test"}
    task = Task.objects.get(pk=post(api, body).json()["id"])
    assert (task.template, task.expected) == ("train fake smoke_test", None)
    task.assign(node)
    task.start(node)
    time.forward(seconds=90)
    task.complete({})
    assert Task.objects.get(pk=post(api, body).json()["id"]).expected == 90


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-Infinity"])
def test_no_number_may_be_infinite_or_nan(
    api: APIClient, body: dict[str, Any], number: str
) -> None:
    text = json.dumps(body | {"params": {"pause": 0.125}}).replace("0.125", number)
    answer = api.post("/api/v1/training/tasks", text, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["code"] == "malformed"
    assert not Task.objects.exists()


def test_a_missing_column_is_refused_at_the_door(
    api: APIClient, body: dict[str, Any], dataset: Upload
) -> None:
    Upload.objects.filter(pk=dataset.pk).update(columns=["smiles", "sequence"])
    answer = post(api, body)
    assert answer.status_code == 422
    assert "affinity" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("filename", "label"),
    [
        ("a.jsonl", "a JSON Lines file"),
        ("a.parquet", "a Parquet file"),
        ("a.zip", "a ZIP archive"),
        ("a.csv.tar.gz", "a gzipped tar archive"),
        ("a.smi", "a SMILES file"),
        ("a.sdf", "an SD file"),
        ("a.pdb", "a PDB file"),
        ("a.csv.fasta", "a FASTA file"),
        ("a.bin", "of an unknown type"),
    ],
)
def test_what_is_no_csv_file_is_not_trained_on(
    api: APIClient, body: dict[str, Any], dataset: Upload, filename: str, label: str
) -> None:
    Upload.objects.filter(pk=dataset.pk).update(filename=filename)
    answer = post(api, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_data")
    assert f"({filename}) is {label};" in answer.json()["detail"]
    assert list(answer.json()["errors"]) == ["dataset"]
    assert not Task.objects.exists()
    with pytest.raises(Problem, match=label) as caught:
        dataset_path(str(dataset.pk))
    assert caught.value.code == "bad_data"


@pytest.mark.parametrize("filename", ["A.CSV", "a.csv.gz"])
def test_any_csv_file_is_trained_on(
    api: APIClient, body: dict[str, Any], dataset: Upload, filename: str
) -> None:
    Upload.objects.filter(pk=dataset.pk).update(filename=filename)
    assert post(api, body).status_code == 202
    assert dataset_path(str(dataset.pk)).name == dataset.sha256


def test_a_data_set_that_is_not_sealed_yet_is_a_conflict(
    api: APIClient, body: dict[str, Any], dataset: Upload
) -> None:
    Upload.objects.filter(pk=dataset.pk).update(state="sealing")
    answer = post(api, body)
    assert answer.status_code == 409
    assert answer.json()["code"] == "dataset_not_ready"


def test_somebody_elses_data_set_is_unknown(bob: User, body: dict[str, Any]) -> None:
    answer = post(client_of(bob), body)
    assert answer.status_code == 422
    assert answer.json()["code"] == "unknown_dataset"


def test_what_no_node_could_ever_hold_is_refused_with_the_largest(
    api: APIClient, body: dict[str, Any]
) -> None:
    make_node(cpus=4, memory=8 * GIB)
    answer = post(api, body | {"resources": {"cpus": 5}})
    assert answer.status_code == 422
    assert answer.json()["code"] == "resources_too_large"
    assert answer.json()["detail"] == (
        "No cpu node could ever hold 5 CPUs; the largest for it, cpu@one, has 4 CPUs, "
        "0 GPUs and 8.0 GiB."
    )


def test_what_only_a_node_that_is_away_could_hold_waits_and_says_so(
    api: APIClient, body: dict[str, Any], django_capture_on_commit_callbacks: Any
) -> None:
    make_node(cpus=4)
    make_node("cpu@big", cpus=8).stop()
    with django_capture_on_commit_callbacks(execute=True):
        task = post(api, body | {"resources": {"cpus": 6}}).json()
    shown = api.get(f"/api/v1/tasks/{task['id']}").json()
    assert shown["waiting_for"] == [
        "Needs 6 CPUs; the largest cpu worker for it, cpu@one, has 4.",
        "cpu@big could hold it, but it was stopped.",
    ]


def test_with_no_node_up_it_waits_and_says_so(
    api: APIClient, body: dict[str, Any], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        task = post(api, body | {"resources": {"cpus": 64}}).json()
    shown = api.get(f"/api/v1/tasks/{task['id']}").json()
    assert shown["waiting_for"] == ["No cpu worker is up."]


def test_the_same_idempotency_key_makes_one_task(
    api: APIClient, body: dict[str, Any]
) -> None:
    first = post(api, body, **{"Idempotency-Key": "k"})
    second = post(api, body, **{"Idempotency-Key": "k"})
    assert first.json() == second.json()
    assert (second.status_code, second["Location"]) == (202, first["Location"])
    assert Task.objects.count() == 1
    other = post(api, body | {"name": "other"}, **{"Idempotency-Key": "k"})
    assert other.json()["code"] == "idempotency_key_reused"


def test_auto_is_the_gpu_lane_where_a_node_of_it_is_up(
    api: APIClient, body: dict[str, Any]
) -> None:
    assert post(api, body).json()["lane"] == "cpu"
    make_node("gpu@one", gpus=[{"index": 0, "name": "g", "memory": GIB}])
    task = post(api, body).json()
    assert (task["lane"], task["resources"]["gpus"]) == ("gpu", 1)


def test_others_tasks_are_not_there(
    api: APIClient, bob: User, body: dict[str, Any]
) -> None:
    task = post(api, body).json()["id"]
    theirs = client_of(bob)
    for route in ("", "/logs", "/events", "/metrics", "/attempts", "/files"):
        assert theirs.get(f"/api/v1/tasks/{task}{route}").status_code == 404
    assert theirs.post(f"/api/v1/tasks/{task}/cancel").status_code == 404
    assert theirs.get("/api/v1/tasks").json()["results"] == []


def test_a_key_without_the_scope_may_not_submit(
    alice: User, body: dict[str, Any]
) -> None:
    assert post(client_of(alice, "read"), body).status_code == 403


def test_series_are_thinned_with_their_ends_kept(
    api: APIClient, submit: Callable[..., Task], time: Any
) -> None:
    task = submit()
    Metric.objects.bulk_create(
        Metric(task=task, name="loss", step=i, value=i, attempt=1, at=time())
        for i in range(101)
    )
    series = api.get(f"/api/v1/tasks/{task.pk}/metrics?points=11").json()["series"]
    assert series[0]["count"] == 101
    assert [point["step"] for point in series[0]["points"]] == list(range(0, 101, 10))
    bad = api.get(f"/api/v1/tasks/{task.pk}/metrics?points=1")
    assert bad.status_code == 422


def test_recipes_show_their_parameters_as_a_json_schema(api: APIClient) -> None:
    names = [one["name"] for one in api.get("/api/v1/recipes").json()["results"]]
    assert {"affinity", "tabular"} <= set(names)
    shown = api.get("/api/v1/recipes/tabular").json()
    assert shown["params"]["properties"]["epochs"]["maximum"] == 10_000
    assert set(shown["params"]["presets"]) == {
        "smoke_test", "prototyping", "validation", "production",
    }  # fmt: skip
    assert api.get("/api/v1/recipes/none").status_code == 404
