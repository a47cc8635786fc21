"""Results that are written straight behind each other, and what a later attempt finds of them."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from inference import batches, predictor, shards
from inference.batch import BatchRun
from inference.bulk import Batch, ByModel
from inference.cache import ModelCache
from inference.claims import Claims
from inference.gathering import Gathering
from inference.shards import Files, write_items
from inference.work import Work
from registry import store
from registry.models import ModelVersion, Node, Task
from registry.states import State
from tests.conftest import make_node
from tests.inference import tiny


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "size_for", lambda count: 4)


@pytest.fixture
def task(version: ModelVersion, inference_node: Node, alice: User) -> Task:
    """A batch of 40 numbers, ten shards, that is placed."""
    path, count = write_items({"x": n} for n in range(20, 60))
    task = batches.accept(version, "inputs", path, count, user=alice)
    task.assign(inference_node)
    return task


@pytest.fixture
def again(
    task: Task, inference_node: Node, cache: ModelCache
) -> Callable[[], list[Any]]:
    """Place the task anew and see it through; its outputs."""

    def again() -> list[Any]:
        task.refresh_from_db()
        if task.state == State.RUNNING:  # its worker was killed
            task.release("node_lost", "It was lost.")
        Task.objects.filter(pk=task.pk).update(not_before=None)
        task.refresh_from_db()
        task.assign(inference_node)
        BatchRun(task, inference_node, cache).run()
        task.refresh_from_db()
        assert task.state == State.COMPLETED, task.message
        return outputs(task)

    return again


def outputs(task: Task) -> list[Any]:
    path = store.task_path(task.pk) / "files" / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["row"] for one in rows] == list(range(1, len(rows) + 1))
    return [one["output"]["y"] for one in rows]


ALL = [2 * n for n in range(20, 60)]


def answered() -> int:
    return sum(tiny.Predictor.batches)


def stop_after(task: Task, node: Node, cache: ModelCache, items: int) -> Files:
    """The task goes back in line once so many items are answered."""
    BatchRun(task, node, cache, is_stopping=lambda: answered() >= items).run()
    task.refresh_from_db()
    assert task.state == State.PENDING
    return Batch.of(task).files


def test_one_worker_alone_writes_no_shard_files(
    task: Task, inference_node: Node, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    publish = Gathering.publish

    def look(self: Gathering) -> None:
        seen.extend(one.name for one in self.path.parent.iterdir())
        publish(self)

    monkeypatch.setattr(Gathering, "publish", look)
    BatchRun(task, inference_node, cache).run()
    assert outputs(task) == ALL
    assert sorted(seen) == ["gathered-1.ends", "gathered-1.jsonl"]
    assert not Batch.of(task).files.folder.exists()


def test_the_next_attempt_goes_on_behind_what_the_first_has_written(
    task: Task, inference_node: Node, cache: ModelCache, again: Callable[[], list[Any]]
) -> None:
    files = stop_after(task, inference_node, cache, 16)
    assert files.gathered(1).exists()
    assert again() == ALL
    assert answered() == 40


def test_a_shard_that_was_cut_short_leaves_nothing_in_the_results(
    task: Task,
    inference_node: Node,
    cache: ModelCache,
    again: Callable[[], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its first chunk is written, and then the worker stops."""
    monkeypatch.setattr("inference.work.FIRST_CHUNK", 1)
    monkeypatch.setattr("inference.work.MOST_IN_CHUNK", 1)
    files = stop_after(task, inference_node, cache, 6)
    lines = files.gathered(1).read_bytes().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [1, 2, 3, 4]
    assert again() == ALL


@pytest.mark.parametrize("kept", [0, 1, 100, 317])
def test_what_the_disk_lost_is_computed_again(
    task: Task,
    inference_node: Node,
    cache: ModelCache,
    again: Callable[[], list[Any]],
    kept: int,
) -> None:
    """The file is shorter than what was noted of it, as no orderly disk leaves it."""
    files = stop_after(task, inference_node, cache, 24)
    size = files.gathered(1).stat().st_size
    assert size > 317
    os.truncate(files.gathered(1), kept)
    assert again() == ALL
    assert answered() > 40


@pytest.mark.parametrize(
    "text",
    [
        b"", b"junk\n", b"FIRST\n1 9", b"FIRST\n1 40 0\n", b"\0\0\0", b"FIRST\nFIRST\n",
        b"4 600 0\n5 700 0\n", b"FIRST\n2 300 0\n", b"-1 0 0\n",
    ],
)  # fmt: skip
def test_ends_that_are_damaged_are_not_believed(
    task: Task,
    inference_node: Node,
    cache: ModelCache,
    again: Callable[[], list[Any]],
    text: bytes,
) -> None:
    files = stop_after(task, inference_node, cache, 24)
    ends = files.gathered(1).with_suffix(".ends")
    first = ends.read_bytes().split(b"\n")[0]
    ends.write_bytes(text.replace(b"FIRST", first))
    assert again() == ALL


def test_a_file_without_its_ends_is_begun_anew(
    task: Task, inference_node: Node, cache: ModelCache, again: Callable[[], list[Any]]
) -> None:
    files = stop_after(task, inference_node, cache, 24)
    files.gathered(1).with_suffix(".ends").unlink()
    assert again() == ALL


def test_ends_that_a_late_worker_noted_of_a_file_that_is_gone_are_not_believed(
    task: Task, inference_node: Node, cache: ModelCache, again: Callable[[], list[Any]]
) -> None:
    """Results stand in their place, of which the ends are not."""
    files = stop_after(task, inference_node, cache, 24)
    files.gathered(1).unlink()
    files.results.parent.mkdir(parents=True)
    files.results.write_bytes(b"x" * 10_000)
    assert again() == ALL
    assert answered() == 24 + 40


def test_results_that_were_published_before_the_worker_died_are_taken_as_they_are(
    task: Task,
    inference_node: Node,
    cache: ModelCache,
    again: Callable[[], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complete = Task.complete

    def die(self: Task, result: Any) -> None:
        raise SystemExit

    monkeypatch.setattr(Task, "complete", die)
    with pytest.raises(SystemExit):
        BatchRun(task, inference_node, cache).run()
    monkeypatch.setattr(Task, "complete", complete)
    assert again() == ALL
    assert answered() == 40


def test_a_worker_that_stood_still_writes_into_no_file_of_a_later_attempt(
    task: Task, inference_node: Node, cache: ModelCache, again: Callable[[], list[Any]]
) -> None:
    """It wakes up in the middle of the next attempt, with its file open."""
    stop_after(task, inference_node, cache, 16)
    with Batch.of(task).files.gathered(1).open("ab") as file:
        assert again() == ALL
        file.write(b"garbage of a late one\n")
    assert outputs(task) == ALL


def test_the_shards_of_others_stand_between_ones_own(
    task: Task, inference_node: Node, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other worker takes each third shard, and is done sooner or later than this one."""
    other = make_node("inference@two", cpus=3)
    task.start(inference_node)
    batch = Batch.of(task)
    batch.source.prepare(batch.size, lambda: None)
    here = Claims(task.pk, task.attempt, inference_node.incarnation)
    theirs = Claims(task.pk, task.attempt, other.incarnation)
    here.divide(batch.shards)
    with cache.use(task.params["version_id"]) as (model, facts):
        answer = ByModel(batch, model, facts)
        gathering = Gathering(batch, task.attempt)
        assert gathering.begin(lambda: None) == {}
        straight: list[int] = []

        def part(number: int) -> Any:
            found = gathering.part(number)
            if found is not None:
                straight.append(number)
            return found

        def take(most: int, done: Any) -> list[int]:
            numbers = here_take(1, done)
            if numbers and numbers[0] % 3 == 1:  # the next one is theirs
                claimed = theirs.take(1, {})
                own = Work(batch, _Given(theirs, claimed), look=lambda: None)
                own.run(answer)
            return numbers

        here_take = here.take
        monkeypatch.setattr(Claims, "take", lambda self, most, done: take(most, done))
        work = Work(
            batch, here, look=lambda: None, straight=part,
            written=lambda: gathering.gather(4),
        )  # fmt: skip
        work.run(answer)
        gathering.gather(10)
    assert gathering.shards == 10
    assert 0 in straight
    assert len(straight) < 10
    gathering.publish()
    assert outputs(task) == ALL


class _Given:
    """Claims that give out what was taken before, once."""

    def __init__(self, claims: Claims, numbers: list[int]) -> None:
        self.task, self._claims, self._numbers = claims.task, claims, numbers

    def take(self, most: int, done: dict[int, int]) -> list[int]:
        self._claims.note(done)
        numbers, self._numbers = self._numbers, []
        return numbers

    def give_back(self, done: dict[int, int]) -> None:
        self._claims.note(done)


def test_a_part_that_another_worker_has_written_meanwhile_is_not_put_in_twice(
    task: Task,
) -> None:
    batch = Batch.of(task)
    gathering = Gathering(batch, 1)
    gathering.begin(lambda: None)
    part = gathering.part(0)
    assert part is not None
    batch.files.shard(0).write_bytes(b"theirs\n")
    gathering.gather(1)
    part.put([b"mine\n"])
    part._end(0)
    assert gathering.path.read_bytes() == b"theirs\n"
    assert gathering.shards == 1
    gathering.leave()


def test_a_part_without_the_one_before_it_is_refused(task: Task) -> None:
    gathering = Gathering(Batch.of(task), 1)
    gathering.begin(lambda: None)
    first, second = gathering.part(0), gathering.part(1)
    assert first is not None
    assert second is not None
    assert gathering.part(3) is None
    with pytest.raises(RuntimeError):
        second.put([b"too early\n"])
    first.put([b"half"])
    first.drop()
    assert gathering.path.read_bytes() == b""
    assert gathering.part(1) is None
    gathering.leave()


def test_a_table_with_a_foot_is_begun_anew_and_its_shards_are_files(
    version: ModelVersion, inference_node: Node, cache: ModelCache, alice: User
) -> None:
    path, count = write_items({"x": n} for n in range(20, 32))
    task = batches.accept(version, "inputs", path, count, user=alice)
    Task.objects.filter(pk=task.pk).update(params={**task.params, "format": "parquet"})
    task.refresh_from_db()
    task.assign(inference_node)
    files = stop_after(task, inference_node, cache, 8)
    assert sorted(one.name for one in files.folder.iterdir()) == [
        "000000.parquet", "000001.parquet",
    ]  # fmt: skip
    task.assign(inference_node)
    BatchRun(task, inference_node, cache).run()
    task.refresh_from_db()
    assert task.state == State.COMPLETED
    assert answered() == 12


@pytest.mark.parametrize(("quick", "elsewhere"), [(0.0, 10), (1e9, 1)])
def test_a_pass_has_a_thread_of_its_own_unless_it_is_quick(
    task: Task, inference_node: Node, cache: ModelCache,
    monkeypatch: pytest.MonkeyPatch, quick: float, elsewhere: int,
) -> None:  # fmt: skip
    """Nobody knows of the first one."""
    threads: list[str] = []
    predict = predictor.predict

    def note(*some: Any, **options: Any) -> Any:
        threads.append(threading.current_thread().name)
        return predict(*some, **options)

    monkeypatch.setattr(predictor, "predict", note)
    monkeypatch.setattr("inference.work.QUICK", quick)
    BatchRun(task, inference_node, cache).run()
    assert outputs(task) == ALL
    assert sum(one.startswith("shard-network") for one in threads) == elsewhere
    assert len(threads) == 10


def test_a_shard_of_another_worker_that_is_copied_in_part_is_begun_anew(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Batch.of(task)
    gathering = Gathering(batch, 1)
    gathering.begin(lambda: None)
    for number, line in enumerate((b"first\n", b"second\n")):
        batch.files.folder.mkdir(parents=True, exist_ok=True)
        batch.files.shard(number).write_bytes(line)
    gathering.gather(1)
    whole: Any = gathering._whole

    def torn(part: Any) -> None:
        whole.put([b"sec"])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(whole, "append", torn)
        with pytest.raises(OSError, match="No space"):
            gathering.gather(1)
    gathering.gather(1)
    assert gathering.path.read_bytes() == b"first\nsecond\n"
    assert gathering.shards == 2
    gathering.leave()
