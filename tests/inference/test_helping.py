"""Two workers at one batch, and what happens to the shards of one that is gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from inference import batches, helping, lead, loading, predictor, shards
from inference.batch import BatchRun
from inference.bulk import Batch, ByModel
from inference.cache import ModelCache
from inference.claims import HELD, Claims, in_need
from inference.gathering import Gathering
from inference.helping import Helper
from inference.models import Shard
from inference.shards import Files, write_items
from inference.work import Work
from registry import store
from registry.errors import Problem
from registry.models import ModelVersion, Node, Stale, Task
from registry.states import State
from tests.conftest import Clock, Messages, make_node
from tests.inference import tiny


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "size_for", lambda count: 4)


@pytest.fixture
def other(inference_node: Node) -> Node:
    return make_node("inference@two", cpus=3)


@pytest.fixture
def task(version: ModelVersion, inference_node: Node, alice: User) -> Task:
    """A batch of 40 numbers that is placed on the first worker."""
    path, count = write_items({"x": n} for n in range(20, 60))
    task = batches.accept(version, "inputs", path, count, user=alice)
    task.assign(inference_node)
    return task


@pytest.fixture
def begun(task: Task, inference_node: Node) -> Claims:
    """It is divided, and its own worker has taken nothing yet."""
    task.start(inference_node)
    batch = Batch.of(task)
    batch.source.prepare(batch.size, lambda: None)
    claims = Claims(task.pk, task.attempt, inference_node.incarnation)
    claims.divide(batch.shards)
    return claims


def another_cache() -> ModelCache:
    return ModelCache(loading.load, loading.look, capacity=4)


def values(task: Task) -> list[Any]:
    path = store.task_path(task.pk) / "files" / "results.jsonl"
    return [json.loads(line)["output"]["y"] for line in path.read_text().splitlines()]


def test_another_worker_takes_shards_while_the_first_computes(
    task: Task,
    inference_node: Node,
    other: Node,
    cache: ModelCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the first chunk of the one, the other comes and finds all else to do."""
    theirs, here = another_cache(), predictor.encode
    helped: list[int] = []

    def encode(model: Any, items: Any, facts: Any) -> Any:
        if not helped:
            helped.append(0)
            Helper(theirs).help(other)
            helped.append(Shard.objects.filter(holder=other.incarnation).count())
        return here(model, items, facts)

    monkeypatch.setattr(predictor, "encode", encode)
    BatchRun(task, inference_node, cache).run()
    task.refresh_from_db()
    assert task.state == State.COMPLETED
    assert helped == [0, 9]
    assert sum(tiny.Predictor.batches) == 40
    assert len(tiny.Predictor.loads) == 2
    assert values(task) == [2 * n for n in range(20, 60)]


def test_the_other_workers_are_told_when_there_is_more_than_one_shard(
    task: Task, inference_node: Node, other: Node, cache: ModelCache, messages: Messages
) -> None:
    BatchRun(task, inference_node, cache).run()
    assert messages.told == [(["inference@two"], "inference_help")]


def test_a_shard_is_taken_by_one_alone(
    begun: Claims, inference_node: Node, other: Node
) -> None:
    theirs = Claims(begun.task, begun.attempt, other.incarnation)
    taken = [*begun.take(4, {}), *theirs.take(4, {}), *begun.take(4, {})]
    assert sorted(taken) == list(range(10))
    assert theirs.take(4, {}) == []


def test_the_shards_of_a_silent_worker_are_free_after_a_while(
    time: Clock, begun: Claims, other: Node
) -> None:
    theirs = Claims(begun.task, begun.attempt, other.incarnation)
    assert theirs.take(10, {}) == list(range(10))
    time.forward(seconds=HELD.total_seconds() - 1)
    assert begun.take(1, {}) == []
    assert theirs.keep()
    time.forward(seconds=HELD.total_seconds() - 1)
    assert begun.take(1, {}) == []
    time.forward(seconds=1)
    assert begun.take(1, {}) == [0]


def test_the_shards_of_a_worker_that_began_anew_are_free_at_once(
    begun: Claims, other: Node
) -> None:
    theirs = Claims(begun.task, begun.attempt, other.incarnation)
    theirs.take(3, {})
    make_node("inference@two", cpus=3)
    assert begun.take(10, {}) == list(range(10))


def test_what_is_given_back_is_free_and_what_was_done_stays_done(
    begun: Claims, other: Node
) -> None:
    theirs = Claims(begun.task, begun.attempt, other.incarnation)
    theirs.take(4, {})
    theirs.give_back({0: 1, 2: 0})
    assert begun.take(10, {}) == [1, 3, *range(4, 10)]
    assert (begun.done(), begun.failed()) == (2, 1)


@pytest.mark.parametrize("verb", ["request_cancel", "request_pause", "request_release"])
def test_nothing_is_taken_of_a_batch_that_is_to_end(
    begun: Claims, task: Task, other: Node, verb: str
) -> None:
    theirs = Claims(begun.task, begun.attempt, other.incarnation)
    theirs.take(1, {})
    getattr(Task.objects.get(pk=task.pk), verb)()
    assert not theirs.keep()
    with pytest.raises(Stale):
        theirs.take(1, {})
    assert in_need(other) is None


def test_an_attempt_that_is_over_takes_nothing(begun: Claims, task: Task) -> None:
    Task.objects.get(pk=task.pk).release("node_lost", "Silent.")
    with pytest.raises(Stale):
        begun.take(1, {})
    with pytest.raises(Stale):
        begun.divide(10)


def test_a_worker_helps_others_and_not_itself(
    begun: Claims, inference_node: Node, other: Node, task: Task
) -> None:
    assert in_need(inference_node) is None
    found = in_need(other)
    assert found == task
    assert in_need(other, [task.pk]) is None


def test_whoever_cannot_load_the_model_leaves_it_to_the_others(
    begun: Claims, task: Task, other: Node
) -> None:
    def fail(facts: Any) -> Any:
        raise Problem("model_unavailable", "No memory.")

    broken = ModelCache(fail, loading.look, capacity=1)
    moments = iter([0.0] * 20 + [100.0] * 20)
    helper = Helper(broken, monotonic=lambda: next(moments))
    helper.help(other)
    assert task.state == State.RUNNING
    assert begun.take(10, {}) == list(range(10))


def test_a_drained_or_stopping_worker_does_not_help(begun: Claims, other: Node) -> None:
    Helper(another_cache(), is_stopping=lambda: True).help(other)
    Node.objects.filter(pk=other.pk).update(draining=True)
    Helper(another_cache()).help(other)
    assert tiny.Predictor.loads == []


def test_a_helper_that_is_asked_to_stop_gives_back_what_it_took(
    begun: Claims, other: Node
) -> None:
    Helper(another_cache(), is_stopping=lambda: sum(tiny.Predictor.batches) >= 4).help(
        other
    )
    assert sum(tiny.Predictor.batches) == 4
    assert begun.done() == 1
    assert begun.take(10, {}) == list(range(1, 10))


def test_a_file_that_is_gone_is_computed_again(
    task: Task, inference_node: Node, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing, lost = Files.missing, []

    def lose(self: Files, numbers: Any) -> list[int]:
        if not lost:
            lost.append(3)
            self.shard(3).unlink()
        return missing(self, numbers)

    monkeypatch.setattr(Files, "missing", lose)
    monkeypatch.setattr(lead, "GATHERED_AT_ONCE", 0)
    monkeypatch.setattr(Gathering, "part", lambda self, number: None)
    BatchRun(task, inference_node, cache).run()
    task.refresh_from_db()
    assert task.state == State.COMPLETED
    assert sum(tiny.Predictor.batches) == 44
    assert values(task) == [2 * n for n in range(20, 60)]


def test_a_shard_that_is_written_twice_stands_once(
    begun: Claims, task: Task, cache: ModelCache, other: Node
) -> None:
    """As when a worker was cut off for long, and another has done its shards meanwhile."""
    late = Claims(begun.task, begun.attempt, other.incarnation)
    late.take(2, {})
    begun.seize()
    batch = Batch.of(task)
    with cache.use(task.params["version_id"]) as (model, facts):
        Work(batch, begun, look=lambda: None).run(ByModel(batch, model, facts))
    before = batch.files.shard(0).read_bytes()
    late.give_back({0: 4, 1: 4})
    assert (begun.done(), begun.failed()) == (10, 0)
    assert batch.files.shard(0).read_bytes() == before


def test_no_more_shards_are_asked_for_than_a_batch_is_worth() -> None:
    assert helping.COMMAND == "inference_help"
    sizes: Callable[[int], int] = SIZE_FOR
    assert [sizes(n) for n in (1, 1000, 10_000, 100_000, 10**6, 10**8)] == [
        32, 32, 157, 1563, 2000, 20_000,
    ]  # fmt: skip


SIZE_FOR = shards.size_for
