from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from inference.cache import FAILURE_KEPT, FRESH, Facts, ModelCache
from registry.errors import Problem

WITHIN = 10  # seconds; a thread that waits longer hangs


class Model:
    def __init__(self, nbytes: int = 10) -> None:
        self.nbytes = nbytes

    def encode(self, item: Any) -> Any:
        return item

    def predict(self, encoded: list[Any]) -> list[dict[str, Any]]:
        return [{} for _ in encoded]


class World:
    """A database of versions, a disk of models and a clock, all in the test's hand."""

    def __init__(self, *, capacity: int = 2, budget: int | None = None) -> None:
        self.versions = {
            n: Facts(n, f"m:{n}", "tiny", f"d{n}", 10) for n in range(1, 9)
        }
        self.now = 0.0
        self.looks: list[int] = []
        self.loads: list[int] = []
        self.unloads = 0
        self.before_load: Callable[[int], None] = lambda version: None
        self.cache = ModelCache(
            self.load,
            self.look,
            capacity=capacity,
            budget=budget,
            unload=self.unload,
            monotonic=lambda: self.now,
        )

    def look(self, version: int) -> Facts | None:
        self.looks.append(version)
        return self.versions.get(version)

    def load(self, facts: Facts) -> Model:
        self.before_load(facts.version)
        self.loads.append(facts.version)
        return Model()

    def unload(self) -> None:
        self.unloads += 1

    def touch(self, *versions: int) -> None:
        for version in versions:
            with self.cache.use(version):
                pass

    def held(self) -> list[str]:
        return [one["model"] for one in self.cache.status()["models"]]


@pytest.fixture
def world() -> World:
    return World()


def test_a_model_is_loaded_once_and_then_hit(world: World) -> None:
    world.touch(1, 1, 1)
    status = world.cache.status()
    assert world.loads == [1]
    assert (status["misses"], status["hits"], status["loads"]) == (1, 2, 1)
    assert status["models"][0]["hits"] == 2


def test_the_least_recently_used_goes_first(world: World) -> None:
    world.touch(1, 2, 1, 3)
    assert world.held() == ["m:3", "m:1"]
    assert world.cache.status()["evictions"] == 1
    assert world.unloads == 1


def test_a_model_in_use_is_not_evicted_and_goes_when_it_is_given_back() -> None:
    world = World(capacity=1)
    with world.cache.use(1) as (model, _):
        world.touch(2)
        assert world.held() == ["m:1"]
        assert model.nbytes == 10
        world.touch(1)
        with world.cache.use(2):
            assert set(world.held()) == {"m:1", "m:2"}
    assert len(world.held()) == 1
    assert world.loads == [1, 2, 2]


def test_however_many_ask_at_once_one_loads() -> None:
    world = World()
    askers = 8
    begin, asked = threading.Barrier(askers), threading.Event()

    def load_slowly(version: int) -> None:
        asked.set()
        # The loader waits until all others stand in line behind it.
        assert full.wait(WITHIN)

    full = threading.Event()
    world.before_load = load_slowly
    looked = world.cache._facts

    def facts_then_note(version: int) -> Facts:
        facts = looked(version)
        if begin.wait(WITHIN) == 0:
            full.set()
        return facts

    world.cache._facts = facts_then_note  # type: ignore[method-assign]
    with ThreadPoolExecutor(askers) as pool:
        list(pool.map(lambda _: world.touch(1), range(askers), timeout=WITHIN))
    assert asked.is_set()
    assert world.loads == [1]
    assert world.cache.status()["models"][0]["users"] == 0


def test_different_models_load_in_parallel(world: World) -> None:
    together = threading.Barrier(2)
    world.before_load = lambda version: together.wait(WITHIN) and None
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(world.touch, [1, 2], timeout=WITHIN))
    assert sorted(world.loads) == [1, 2]


def test_a_load_does_not_block_the_use_of_another_model(world: World) -> None:
    world.touch(2)
    loading, used = threading.Event(), threading.Event()

    def wait_for_use(version: int) -> None:
        loading.set()
        assert used.wait(WITHIN)

    world.before_load = wait_for_use
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(world.touch, 1)
        assert loading.wait(WITHIN)
        world.touch(2)
        used.set()
        slow.result(WITHIN)
    assert world.cache.status()["hits"] == 1


def test_a_load_that_fails_gives_every_waiter_the_one_reason(world: World) -> None:
    askers = 4
    begin = threading.Barrier(askers)

    def fail(version: int) -> None:
        raise Problem("model_unavailable", "It is broken.")

    world.before_load = fail

    def ask(_: int) -> Problem:
        begin.wait(WITHIN)
        with pytest.raises(Problem) as caught, world.cache.use(1):
            pass
        return caught.value

    with ThreadPoolExecutor(askers) as pool:
        problems = list(pool.map(ask, range(askers), timeout=WITHIN))
    assert {problem.detail for problem in problems} == {"It is broken."}
    assert len({id(problem) for problem in problems}) == askers
    assert world.cache.status()["failures"] == 1


def test_a_failure_is_kept_for_a_while_and_then_tried_again(world: World) -> None:
    world.before_load = lambda version: (_ for _ in ()).throw(OSError("/a/path"))
    tries = []
    for moment in (0.0, FAILURE_KEPT / 2, FAILURE_KEPT):
        world.now = moment
        with pytest.raises(Problem) as caught:
            world.touch(1)
        tries.append(world.cache.status()["failures"])
        assert "/a/path" not in caught.value.detail
    assert tries == [1, 1, 2]
    world.before_load = lambda version: None
    world.now = 3 * FAILURE_KEPT
    world.touch(1)
    assert world.loads == [1]


def test_a_failed_model_takes_no_place(world: World) -> None:
    world.touch(1, 2)
    world.before_load = lambda version: (_ for _ in ()).throw(OSError)
    with pytest.raises(Problem):
        world.touch(3)
    assert world.cache.status()["models"][0]["state"] == "failed"
    world.before_load = lambda version: None
    world.touch(2, 1, 2, 1)
    assert world.loads == [1, 2, 1]


def test_the_database_is_looked_at_once_a_second_at_most(world: World) -> None:
    world.touch(1, 1, 1)
    assert world.looks == [1]
    world.now = FRESH
    world.touch(1)
    assert world.looks == [1, 1]


def test_a_deleted_version_is_not_served_a_second_later(world: World) -> None:
    world.touch(1)
    del world.versions[1]
    world.now = FRESH
    with pytest.raises(Problem) as caught:
        world.touch(1)
    assert caught.value.code == "unknown_model"
    assert world.held() == []
    assert world.unloads == 1


def test_sweeping_frees_what_was_deleted_once_its_last_user_is_done(
    world: World,
) -> None:
    with world.cache.use(1):
        del world.versions[1]
        world.cache.sweep()
        assert world.held() == []
        assert world.unloads == 0
    assert world.unloads == 1


def test_a_changed_version_is_loaded_anew(world: World) -> None:
    world.touch(1)
    world.versions[1] = Facts(1, "m:1", "tiny", "other", 10)
    world.now = FRESH
    with world.cache.use(1) as (_, facts):
        assert facts.digest == "other"
    assert world.loads == [1, 1]


def test_the_budget_of_bytes_evicts_idle_models() -> None:
    world = World(capacity=8, budget=25)
    world.touch(1, 2, 3)
    status = world.cache.status()
    assert world.held() == ["m:3", "m:2"]
    assert status["bytes"] == 20


def test_a_model_larger_than_the_budget_is_refused_for_good() -> None:
    world = World(budget=5)
    with pytest.raises(Problem) as caught:
        world.touch(1)
    assert caught.value.code == "model_too_large"
    assert caught.value.retry_after is None
    assert world.loads == []


def test_memory_that_others_use_is_refused_only_for_now() -> None:
    world = World(budget=15)
    with world.cache.use(1):
        with pytest.raises(Problem) as caught:
            world.touch(2)
        assert caught.value.retry_after == 1
    world.touch(2)
    assert world.held() == ["m:2"]


def test_evicting_by_hand_spares_a_model_in_use(world: World) -> None:
    with world.cache.use(1):
        assert world.cache.evict(1) == "in use"
    assert world.cache.evict(1) == "evicted"
    assert world.cache.evict(1) == "not loaded"
    assert world.held() == []


def test_a_user_that_fails_gives_the_model_back(world: World) -> None:
    with pytest.raises(KeyError), world.cache.use(1):
        raise KeyError
    assert world.cache.status()["models"][0]["users"] == 0


def test_a_loader_that_is_broken_off_leaves_nobody_waiting(world: World) -> None:
    def leave(version: int) -> None:
        raise SystemExit

    world.before_load = leave
    with pytest.raises(SystemExit):
        world.touch(1)
    with pytest.raises(Problem) as caught:
        world.touch(1)
    assert caught.value.code == "model_unavailable"
    assert world.cache.status()["models"][0]["users"] == 0


def test_a_mixed_load_from_many_threads_ends_with_nothing_in_use() -> None:
    world = World(capacity=3, budget=40)
    refused: list[float | None] = []

    def work(seed: int) -> int:
        served = 0
        for step in range(200):
            version = (seed * 7 + step * step) % 8 + 1
            try:
                with world.cache.use(version) as (model, facts):
                    served += facts.version == version and model.nbytes == 10
            except Problem as problem:
                refused.append(problem.retry_after)
        return served

    with ThreadPoolExecutor(6) as pool:
        served = sum(pool.map(work, range(6), timeout=60))
    status = world.cache.status()
    assert served + len(refused) == 6 * 200
    assert set(refused) <= {1}
    assert all(one["users"] == 0 for one in status["models"])
    assert len(status["models"]) <= 3
    assert status["loads"] - status["evictions"] == len(status["models"])


def test_a_pinned_model_is_not_evicted_until_it_is_unpinned(world: World) -> None:
    assert world.cache.preload(1, pin=True)[0]
    world.touch(2, 3, 4)
    assert world.held() == ["m:4", "m:1"]
    assert world.cache.evict(1) == "evicted"
    world.touch(1, 2, 3)
    assert world.held() == ["m:3", "m:2"]


def test_a_pin_outlives_a_new_load_and_ends_with_the_version(world: World) -> None:
    world.cache.preload(1, pin=True)
    world.versions[1] = Facts(1, "m:1", "tiny", "d1", 10, engine_sha256="other")
    world.now += FRESH
    world.touch(1, 2, 3)
    assert world.held() == ["m:3", "m:1"]
    del world.versions[1]
    world.cache.sweep()
    assert world.held() == ["m:3"]


def test_pinned_models_that_fill_the_budget_leave_others_a_clear_error() -> None:
    world = World(capacity=9, budget=20)
    world.cache.preload(1, pin=True)
    world.cache.preload(2, pin=True)
    with pytest.raises(Problem, match="in use or pinned leave less"):
        world.touch(3)
    world.touch(1, 2)
