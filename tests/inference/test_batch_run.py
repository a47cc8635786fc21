from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, transaction

from inference import batch, batches, ending, shards, stop, work
from inference.batch import BatchRun
from inference.cache import ModelCache
from inference.claims import Claims
from inference.forms import FORMS
from inference.shards import Files, write_items
from inference.sinks.files import Joined
from inference.sources.jsonl import JsonLines
from registry import logs, store
from registry.errors import Problem
from registry.models import ModelVersion, Node, Task
from registry.states import State
from tests.inference import tiny


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "size_for", lambda count: 4)


@pytest.fixture
def placed(
    version: ModelVersion, inference_node: Node, alice: User
) -> Callable[..., Task]:
    """A batch of numbers, assigned to the node."""

    def placed(*values: Any) -> Task:
        path, count = write_items({"x": value} for value in values)
        with transaction.atomic():
            task = batches.accept(version, "inputs", path, count, user=alice)
        task.assign(inference_node)
        return task

    return placed


def run(task: Task, cache: ModelCache, **options: Any) -> BatchRun:
    assert task.node is not None
    one = BatchRun(task, task.node, cache, **options)
    one.run()
    task.refresh_from_db()
    return one


def rows(task: Task) -> list[dict[str, Any]]:
    path = store.task_path(task.pk) / "files" / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_batch_is_answered_in_order_with_counts(
    placed: Callable[..., Task], cache: ModelCache
) -> None:
    task = placed(*range(5), "bad", *range(5))
    run(task, cache)
    assert task.state == State.COMPLETED
    assert task.result == {
        "model": "tiny", "version": 1,
        "total_count": 11, "success_count": 10, "failed_count": 1,
    }  # fmt: skip
    found = rows(task)
    assert [one["input"]["x"] for one in found] == [*range(5), "bad", *range(5)]
    assert found[4] == {
        "row": 5,
        "input": {"x": 4},
        "success": True,
        "output": {"y": 8},
    }
    assert task.progress["fraction"] == 1.0
    assert found[5]["success"] is False
    assert found[5]["error"]["code"] == "bad_item"
    assert "1 of 11 items failed" in logs.path(task).read_text()


def test_the_model_is_loaded_once(
    placed: Callable[..., Task], cache: ModelCache
) -> None:
    run(placed(*range(50)), cache)
    assert len(tiny.Predictor.loads) == 1


def test_a_second_delivery_does_nothing(
    placed: Callable[..., Task], cache: ModelCache
) -> None:
    task = placed(1)
    late = Task.objects.select_related("node").get(pk=task.pk)
    run(task, cache)
    before = task.events.count()
    run(late, cache)
    assert late.state == State.COMPLETED
    assert late.events.count() == before
    assert tiny.Predictor.batches == [1]


def test_a_model_that_cannot_load_fails_all_items_with_one_reason(
    placed: Callable[..., Task], cache: ModelCache, version: ModelVersion
) -> None:
    task = placed(*range(6))
    (store.model_path(version.digest) / "config.json").write_text("{}")
    run(task, cache)
    assert (task.state, task.reason) == (State.FAILED, "model_unavailable")
    found = rows(task)
    assert len(found) == 6
    assert {one["error"]["detail"] for one in found} == {task.message}
    assert not any(one["success"] for one in found)


def test_a_model_deleted_meanwhile_fails_all_items(
    placed: Callable[..., Task], cache: ModelCache, version: ModelVersion
) -> None:
    task = placed(1, 2)
    version.delete()
    run(task, cache)
    assert (task.state, task.reason) == (State.FAILED, "model_unavailable")
    assert [one["error"]["code"] for one in rows(task)] == ["unknown_model"] * 2


def lose_worker(task: Task, node: Node, *, done: int | None = None) -> None:
    """One attempt that ends with its worker, after it has done that shard."""
    task.start(node)
    if done is not None:
        Claims(task.pk, task.attempt, "gone").note({done: 0})
    task.release("node_lost", "It came back under a new incarnation.")
    task.assign(node)


def test_a_batch_over_which_workers_end_again_and_again_tells_it_to_all_items(
    placed: Callable[..., Task], cache: ModelCache, inference_node: Node
) -> None:
    task = placed(*range(70))
    task.start(inference_node)
    Claims(task.pk, task.attempt, "gone").divide(18)
    task.release("worker_stopped", "")
    task.assign(inference_node)
    for _ in range(ending.DEADLY_AFTER):
        lose_worker(task, inference_node)
    run(task, cache)
    assert (task.state, task.reason) == (State.FAILED, "error")
    assert "brings them down" in task.message
    assert [one["error"]["code"] for one in rows(task)] == ["internal"] * 70


def test_a_batch_whose_workers_end_goes_on_as_long_as_parts_of_it_get_done(
    placed: Callable[..., Task], cache: ModelCache, inference_node: Node
) -> None:
    task = placed(*range(20, 90))
    task.start(inference_node)
    claims = Claims(task.pk, task.attempt, "gone")
    claims.divide(18)
    task.release("worker_stopped", "")
    task.assign(inference_node)
    for n in range(ending.DEADLY_AFTER):
        lose_worker(task, inference_node, done=0 if n == 2 else None)
    run(task, cache)
    assert task.state == State.COMPLETED
    assert [one["output"]["y"] for one in rows(task)] == [
        2.0 * n for n in range(20, 90)
    ]


def test_a_cancel_is_honoured_between_chunks(
    placed: Callable[..., Task], cache: ModelCache
) -> None:
    task = placed(*range(40))

    def cancel_after_two() -> bool:
        if len(tiny.Predictor.batches) == 2:
            Task.objects.get(pk=task.pk).request_cancel()
            return True
        return False

    run(task, cache, is_revoked=cancel_after_two)
    assert task.state == State.CANCELLED
    assert len(tiny.Predictor.batches) == 2
    assert not (store.task_path(task.pk) / "files" / "results.jsonl").exists()


def test_a_cancel_is_seen_while_a_pass_takes_long_that_was_quick_before(
    placed: Callable[..., Task], cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "AT_ONCE", 0.1)
    task, predict = placed(*range(40)), tiny.Predictor.predict
    where: list[str] = []

    def predict_or_hang(self: Any, encoded: list[float]) -> list[dict[str, Any]]:
        if len(self.batches) < 4:
            return predict(self, encoded)
        where.append(threading.current_thread().name)
        while True:
            stop.look()
            time.sleep(0.01)

    def cancel() -> bool:
        if len(where) < 2:
            return False
        row = Task.objects.get(pk=task.pk)
        if row.cancel_requested_at is None:
            row.request_cancel()
        return True

    monkeypatch.setattr(tiny.Predictor, "predict", predict_or_hang)
    run(task, cache, is_revoked=cancel)
    assert task.state == State.CANCELLED
    here, *others = where  # more than one, if a core is free
    assert here == threading.current_thread().name
    assert all(other.startswith("shard-network") for other in others)


def test_a_cancel_wins_over_a_result_that_is_ready(
    placed: Callable[..., Task], cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = placed(1)
    take = Files.take

    def take_then_cancel(self: Files, path: Any) -> None:
        take(self, path)
        Task.objects.get(pk=task.pk).request_cancel()

    monkeypatch.setattr(Files, "take", take_then_cancel)
    run(task, cache)
    assert task.state == State.CANCELLED


def test_a_stopping_worker_gives_the_task_back_and_the_next_goes_on(
    placed: Callable[..., Task], cache: ModelCache, inference_node: Node
) -> None:
    task = placed(*range(12))
    run(task, cache, is_stopping=lambda: sum(tiny.Predictor.batches) >= 8)
    assert (task.state, task.reason) == (State.PENDING, "worker_stopped")
    answered = sum(tiny.Predictor.batches)
    task.assign(inference_node)
    run(task, cache)
    assert task.state == State.COMPLETED
    assert answered == 8
    assert sum(tiny.Predictor.batches) == 12
    assert [one["output"]["y"] for one in rows(task)] == [2 * n for n in range(12)]


def test_a_retry_from_the_start_forgets_what_was_answered(
    placed: Callable[..., Task], cache: ModelCache, inference_node: Node
) -> None:
    task = placed(*range(8))
    run(task, cache, is_stopping=lambda: sum(tiny.Predictor.batches) >= 4)
    task.request_cancel()
    task.retry(start_over=True)
    task.assign(inference_node)
    run(task, cache)
    assert task.state == State.COMPLETED
    assert sum(tiny.Predictor.batches) == 4 + 8


def test_a_pause_lets_go_and_a_resume_goes_on(
    placed: Callable[..., Task], cache: ModelCache, inference_node: Node
) -> None:
    task = placed(*range(12))

    def pause_once() -> bool:
        if sum(tiny.Predictor.batches) == 4:
            Task.objects.get(pk=task.pk).request_pause()
            return True
        return False

    run(task, cache, is_revoked=pause_once)
    assert task.state == State.PAUSED
    task.resume()
    task.assign(inference_node)
    run(task, cache)
    assert task.state == State.COMPLETED
    assert sum(tiny.Predictor.batches) == 12


def test_a_lost_attempt_writes_nothing_more(
    placed: Callable[..., Task], cache: ModelCache
) -> None:
    task = placed(*range(12))

    def lose() -> bool:
        if len(tiny.Predictor.batches) == 1:
            Task.objects.get(pk=task.pk).release("node_lost", "Silent for too long.")
            return True
        return False

    run(task, cache, is_revoked=lose)
    assert (task.state, task.reason) == (State.PENDING, "node_lost")
    assert len(tiny.Predictor.batches) == 1


def test_a_time_limit_is_kept(placed: Callable[..., Task], cache: ModelCache) -> None:
    task = placed(*range(12))
    Task.objects.filter(pk=task.pk).update(time_limit=5)
    moments = iter([0.0, 0.0, *[3.0] * 4, *[6.0] * 100])
    run(task, cache, monotonic=lambda: next(moments))
    assert (task.state, task.reason) == (State.FAILED, "time_limit")


def test_a_run_that_could_not_beat_for_long_ends_itself(
    placed: Callable[..., Task], cache: ModelCache
) -> None:
    task = placed(*range(12))
    moments = iter([0.0, 0.0, 1.0, *[100.0] * 100])
    run(task, cache, monotonic=lambda: next(moments))
    assert task.state == State.RUNNING
    assert sum(tiny.Predictor.batches) <= 4


def test_progress_is_told_with_the_beat(
    placed: Callable[..., Task], cache: ModelCache
) -> None:
    task = placed(*range(16))
    seen: list[Any] = []

    def look() -> bool:
        seen.append(Task.objects.get(pk=task.pk).progress)
        return True

    run(task, cache, is_revoked=look)
    assert seen[0] == {}
    steps = [one["step"] for one in seen[1:]]
    assert steps == sorted(steps)
    assert {"fraction": 0.5, "stage": "predicting", "step": 8, "steps": 16} in seen
    assert task.progress["fraction"] == 1.0


def test_a_long_load_is_covered_by_beats(
    transactional_db: None,
    placed: Callable[..., Task],
    cache: ModelCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The load ends only once beats came while it went on."""
    monkeypatch.setattr(batch, "BEAT_EVERY", 0.01)
    task, beats, enough = placed(1), [], threading.Event()
    beat, load = BatchRun.beat, cache._loader

    def count(self: BatchRun) -> None:
        beat(self)
        beats.append(1)
        if len(beats) == 3:
            enough.set()

    def load_slowly(facts: Any) -> Any:
        assert enough.wait(10)
        return load(facts)

    monkeypatch.setattr(BatchRun, "beat", count)
    monkeypatch.setattr(cache, "_loader", load_slowly)
    run(task, cache)
    assert task.state == State.COMPLETED
    assert len(beats) >= 3


def test_memory_that_is_short_for_now_is_waited_for(
    placed: Callable[..., Task], cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, tries = placed(1), []
    make_room = cache._make_room

    def full_at_first(entry: Any) -> None:
        tries.append(entry)
        if len(tries) < 3:
            raise Problem("model_unavailable", "Full.", retry_after=1)
        make_room(entry)

    monkeypatch.setattr(cache, "_make_room", full_at_first)
    waits: list[float] = []
    run(task, cache, sleep=waits.append)
    assert task.state == State.COMPLETED
    assert len(waits) == 2


def test_the_final_verb_is_said_again_while_the_database_is_away(
    placed: Callable[..., Task], cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, complete, tries = placed(1), Task.complete, []

    def away_at_first(self: Task, result: Any) -> None:
        tries.append(result)
        if len(tries) < 3:
            raise OperationalError("gone")
        complete(self, result)

    monkeypatch.setattr(Task, "complete", away_at_first)
    run(task, cache, sleep=lambda seconds: None)
    assert task.state == State.COMPLETED
    assert len(tries) == 3


def test_what_nobody_foresaw_fails_the_task_without_showing_it(
    placed: Callable[..., Task], cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = placed(1)

    def break_off(*_: Any) -> Any:
        raise RuntimeError(tiny.SECRET)

    monkeypatch.setattr(JsonLines, "read", break_off)
    run(task, cache)
    assert (task.state, task.reason) == (State.FAILED, "error")
    assert tiny.SECRET not in task.message


def test_a_batch_with_fewer_rows_than_it_said_is_bad_data(
    placed: Callable[..., Task], cache: ModelCache
) -> None:
    task = placed(1, 2)
    (store.task_path(task.pk) / "items.jsonl").write_text('{"x": 1}\n')
    run(task, cache)
    assert (task.state, task.reason) == (State.FAILED, "bad_data")
    assert "1 rows, not 2" in task.message


def test_a_line_that_is_no_json_costs_its_item_alone(
    placed: Callable[..., Task], cache: ModelCache
) -> None:
    task = placed(1, 2)
    (store.task_path(task.pk) / "items.jsonl").write_text('{nonsense\n{"x": 2}\n')
    run(task, cache)
    assert task.state == State.COMPLETED
    bad, good = rows(task)
    assert (bad["input"], bad["error"]["code"]) == ("{nonsense", "bad_item")
    assert good["output"] == {"y": 4}


def test_a_full_disk_is_called_so(
    placed: Callable[..., Task], cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = placed(1)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Joined, "put", full)
    run(task, cache)
    assert (task.state, task.reason) == (State.FAILED, "disk_full")


def test_pairs_are_answered_in_their_own_words() -> None:
    form = FORMS["pairs"]
    pair = {"protein": "MKV", "ligand": "CCO", "id": 7}
    assert form.as_input(pair) == {"sequence": "MKV", "smiles": "CCO"}
    assert form.as_input({"protein": "MKV"}) == {"sequence": "MKV"}
    assert form.result(3, pair, pair, {"affinity": 7.5, "uncertainty": 0.1}) == {
        "row": 3, **pair, "success": True, "binding_affinity": 7.5, "uncertainty": 0.1,
    }  # fmt: skip
    error = {"code": "bad_item", "detail": "No."}
    assert form.result(4, "x", "x", {"error": error}) == {
        "row": 4, "protein": None, "ligand": None, "success": False, "error": error,
    }  # fmt: skip


def test_a_batch_on_a_drained_node_lets_go_and_goes_on_where_it_was(
    placed: Callable[..., Task], cache: ModelCache, inference_node: Node
) -> None:
    task = placed(*range(12))

    def move() -> bool:
        if sum(tiny.Predictor.batches) < 4:
            return False
        row = Task.objects.get(pk=task.pk)
        if row.release_requested_at is None:
            row.request_release()
        return True

    run(task, cache, is_revoked=move)
    assert (task.state, task.reason) == (State.PENDING, "drained")
    assert task.release_requested_at is None
    answered = sum(tiny.Predictor.batches)
    assert answered < 12
    task.assign(inference_node)
    run(task, cache)
    assert task.state == State.COMPLETED
