"""Which of several models answers a batch: the first that can be served when it starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from inference import batches
from inference.batch import BatchRun
from inference.cache import ModelCache
from inference.lead import Lead
from inference.shards import write_items
from registry import logs
from registry.models import ModelVersion, Node, Second, Task
from registry.states import State
from tests.inference import tiny
from tests.inference.test_batch_run import rows, small_shards  # noqa: F401

BATCH = "/api/v1/inference/batch"
BROKEN: dict[str, Any] = {"config": {"recipe": "tiny", "params": {"broken": 1}}}


@pytest.fixture
def placed(inference_node: Node, alice: User) -> Callable[..., Task]:
    """A batch of numbers for those models, assigned to the node."""

    def placed(model: Any, count: int = 6) -> Task:
        path, count = write_items({"x": n} for n in range(count))
        version = batches.version_for(model, "inputs", list)
        asked = {"model": model}
        task = batches.accept(version, "inputs", path, count, user=alice, asked=asked)
        task.assign(inference_node)
        return task

    return placed


def run(task: Task, cache: ModelCache, **options: Any) -> None:
    assert task.node is not None
    BatchRun(task, task.node, cache, **options).run()
    task.refresh_from_db()


def test_the_first_that_loads_when_it_starts_answers(
    version: ModelVersion, placed: Callable[..., Task], cache: ModelCache
) -> None:
    tiny.make_version("broken", 3.0, **BROKEN)
    task = placed(["gone", "broken", "tiny"])
    run(task, cache)
    assert task.state == State.COMPLETED
    assert (task.result["model"], task.result["version"]) == ("tiny", 1)
    codes = [one["code"] for one in task.result["fell_back"]]
    assert codes == ["unknown_model", "model_unavailable"]
    assert "broken is passed over" in logs.path(task).read_text()
    assert all(row["success"] for row in rows(task))


def test_a_model_that_came_or_went_since_it_was_asked_counts(
    version: ModelVersion, placed: Callable[..., Task], cache: ModelCache
) -> None:
    other = tiny.make_version("other", 2.0)
    gone, come = placed(["other", "tiny"]), placed(["new", "tiny"])
    other.delete()
    tiny.make_version("new", 5.0)
    run(gone, cache)
    run(come, cache)
    assert gone.result["model"] == "tiny"
    assert (come.result["model"], come.result["fell_back"]) == ("new", [])


def test_what_was_chosen_stays_chosen_after_the_worker_dies(
    version: ModelVersion, placed: Callable[..., Task], cache: ModelCache,
    inference_node: Node, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    task = placed(["late", "tiny"], 10)
    gather = Lead._gather

    def die(self: Lead) -> None:
        raise SystemExit

    monkeypatch.setattr(Lead, "_gather", die)  # after the first shard
    with pytest.raises(SystemExit):
        run(task, cache)
    monkeypatch.setattr(Lead, "_gather", gather)
    tiny.make_version("late", 5.0)
    task.refresh_from_db()
    task.release("node_lost", "It was lost.")
    Task.objects.filter(pk=task.pk).update(not_before=None)
    task.refresh_from_db()
    task.assign(inference_node)
    run(task, cache)
    assert (task.state, task.result["model"]) == (State.COMPLETED, "tiny")
    assert [one["code"] for one in task.result["fell_back"]] == ["unknown_model"]


def test_if_none_can_be_served_the_task_fails_with_all_reasons(
    version: ModelVersion, placed: Callable[..., Task], cache: ModelCache
) -> None:
    other = tiny.make_version("other", 2.0)
    task = placed(["other", "tiny"])
    other.delete()
    version.delete()
    run(task, cache)
    assert (task.state, task.reason) == (State.FAILED, "model_unavailable")
    assert "other:" in task.message
    assert "tiny:" in task.message
    assert len(rows(task)) == 6


def test_of_a_list_without_any_model_nothing_is_queued(
    version: ModelVersion, inference_node: Node, api: APIClient
) -> None:
    body = {"model": ["none", "tiny:9"], "inputs": [{"x": 1}]}
    refused = api.post(BATCH, body, format="json")
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_model")
    assert not Task.objects.exists()


def test_each_model_of_a_list_must_take_pairs(
    version: ModelVersion, inference_node: Node, api: APIClient
) -> None:
    pairs = [{"protein": "MK", "ligand": "C"}]
    body = {"model": ["none", "tiny"], "protein_ligand_pairs": pairs}
    refused = api.post(BATCH, body, format="json")
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")


def test_an_alias_that_splits_gives_a_batch_the_version_it_names(
    version: ModelVersion, placed: Callable[..., Task], cache: ModelCache
) -> None:
    other = tiny.make_version("tiny", 2.0)
    Second.put(version.model.point("champion", version), other, 0.999)
    for model in ("tiny@champion", ["tiny@champion"]):
        task = placed(model)
        run(task, cache)
        assert task.result["version"] == 1


def test_a_batch_that_is_waited_for_says_who_answered(
    version: ModelVersion, inference_node: Node, alice: User, cache: ModelCache,
    placed: Callable[..., Task],
) -> None:  # fmt: skip
    task = placed(["gone", "tiny"])
    run(task, cache)
    body = batches.results(task)
    assert body is not None
    assert (body["model"], body["version"]) == ("tiny", 1)
    assert json.dumps(body["fell_back"])
    plain = placed("tiny")
    run(plain, cache)
    assert "fell_back" not in (batches.results(plain) or {})
