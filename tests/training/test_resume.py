"""A training killed anywhere, however often, ends as one that never was: weights and metrics."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.test_trainer import Run
from training import checkpoints, learner, trainer
from training.checkpoints import LAST, PREVIOUS
from training.context import Stopped

STEPS = 28
EFFECTS = ("write", "fsync", "rename last", "rename aside", "fsync directory")
CONFIG: dict[str, Any] = {"noise": True, "accumulation": 2, "clip_norm": 1.0}


class Killed(BaseException):
    """Nothing in a training may catch it, as nothing catches a signal 9."""


class Life:
    """All attempts of one training: what its supervisor has written, and when the next one dies.

    Every step is a checkpoint. The last reports before a death are lost with the worker.
    """

    def __init__(self, home: Path, lost: int = 0, **config: Any) -> None:
        self.home, self.lost, self.config = home, lost, {**CONFIG, **config}
        self.points: dict[tuple[str, int], float] = {}
        self.steps: list[int] = []
        self.attempts = 0

    def attempt(self, *, die_before: int | None = None) -> Run | None:
        """One attempt to its end; None if it died before that batch of its own."""
        self.attempts += 1
        now = 0.0
        run = Run(self.home, clock=lambda: now, **self.config)
        learn, batches = run.trainer.learner.loss, 0

        def loss(module: Any, indices: Any) -> Any:
            nonlocal batches, now
            if batches == die_before:
                raise Killed
            batches, now = batches + 1, now + 3.0
            self.steps.append(run.trainer.state.step)
            return learn(module, indices)

        run.trainer.learner.loss = loss
        try:
            run.fit()
        except (Killed, Stopped):
            self.hear(run.events[: len(run.events) - self.lost])
            return None
        self.hear(run.events)
        return run

    def hear(self, events: list[Any]) -> None:
        for step, values in [
            (e["step"], e["values"]) for e in events if e["event"] == "metric"
        ]:
            for name, value in values.items():
                assert self.points.setdefault((name, step), value) == value


def digest(run: Run | None) -> str:
    assert run is not None
    whole = hashlib.sha256()
    for name, tensor in sorted(run.weights.items()):
        whole.update(name.encode() + tensor.numpy().tobytes())
    return whole.hexdigest()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[Any, float]]:
    life = Life(tmp_path_factory.mktemp("whole"))
    return digest(life.attempt()), life.points


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda number: None)


@pytest.mark.usefixtures("no_sync")
def test_killed_before_every_step_and_in_every_attempt(
    tmp_path: Path, whole: tuple[str, dict[Any, float]]
) -> None:
    one_each = Life(tmp_path / "one each", lost=2)
    while (run := one_each.attempt(die_before=1)) is None:
        assert one_each.attempts < 100
    assert (digest(run), one_each.points) == whole
    for step in range(STEPS):
        life = Life(tmp_path / str(step), lost=1)
        assert life.attempt(die_before=step) is None
        assert (digest(life.attempt()), life.points) == whole, step


@pytest.fixture
def die_in_save(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str, int], None]:
    """Kills the training in the n-th checkpoint, just before one of its effects."""
    plan: list[Any] = ["", 0]
    seen = dict.fromkeys(EFFECTS, 0)
    write, rename = Path.open, Path.replace

    def at(effect: str) -> None:
        seen[effect] += 1
        if plan == [effect, seen[effect]]:
            raise Killed

    def opened(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = write(self, mode, *args, **options)
        if mode == "wb" and self.suffix == ".part":
            file.write(b"half of it")
            try:
                at("write")
            except Killed:
                file.close()
                raise
            file.seek(0)
            file.truncate()
        return file

    def replaced(self: Path, target: Path) -> Path:
        at("rename last" if self.name == LAST else "rename aside")
        return rename(self, target)

    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(checkpoints.os, "fsync", lambda number: at("fsync"))
    monkeypatch.setattr(
        checkpoints, "fsync_directory", lambda directory: at("fsync directory")
    )

    def die(effect: str, count: int) -> None:
        plan[:] = [effect, count]
        seen.update(dict.fromkeys(EFFECTS, 0))

    return die


@pytest.mark.parametrize("effect", EFFECTS)
def test_killed_at_every_effect_of_a_checkpoint(
    tmp_path: Path,
    whole: tuple[str, dict[Any, float]],
    die_in_save: Callable[[str, int], None],
    effect: str,
) -> None:
    for count in (1, 2, 3, 9, 20, 27):
        life = Life(tmp_path / str(count), lost=1)
        die_in_save(effect, count)
        assert life.attempt() is None
        die_in_save("", 0)
        assert (digest(life.attempt()), life.points) == whole, count


@pytest.mark.usefixtures("no_sync")
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    deaths=st.lists(st.integers(0, STEPS), max_size=8),
    lost=st.integers(0, 8),
    damage=st.lists(
        st.tuples(st.sampled_from([LAST, PREVIOUS]), st.integers(0, 4000)), max_size=8
    ),
)
def test_killed_at_any_steps_with_any_damage(
    tmp_path_factory: pytest.TempPathFactory,
    whole: tuple[str, dict[Any, float]],
    deaths: list[int],
    lost: int,
    damage: list[tuple[str, int]],
) -> None:
    life = Life(tmp_path_factory.mktemp("life"), lost=lost)
    for death, harm in itertools.zip_longest(deaths, damage):
        if death is not None and life.attempt(die_before=death) is not None:
            break
        if harm is not None:
            damage_file(life.home / "checkpoints" / harm[0], harm[1])
    assert (digest(life.attempt()), life.points) == whole


def damage_file(path: Path, place: int) -> None:
    """Cut the file there, or flip a bit of it, or both of nothing."""
    if not path.exists():
        return
    content = bytearray(path.read_bytes())
    if place % 2 or not content:
        path.write_bytes(content[:place])
    else:
        content[place % len(content)] ^= 1
        path.write_bytes(content)


@pytest.mark.usefixtures("no_sync")
def test_what_was_asked_to_stop_goes_on_at_that_very_step(
    tmp_path: Path, whole: tuple[str, dict[Any, float]]
) -> None:
    life = Life(tmp_path, stop_after=3)
    while (run := life.attempt()) is None:
        assert life.attempts < 100
    assert (digest(run), life.points) == whole
    # Each batch was learned from once: two make a step, and seven an epoch.
    assert len(life.steps) == 4 * 7
    assert life.steps == sorted(life.steps)


def test_a_stop_in_the_judging_after_an_epoch_loses_no_step(
    tmp_path: Path, whole: tuple[str, dict[Any, float]]
) -> None:
    first = Run(tmp_path, **CONFIG)
    first.trainer.validate = lambda module: first.trainer.context.stop_if_asked()  # type: ignore[assignment,func-returns-value]
    first.trainer.context.should_stop = lambda: first.trainer.state.batch == 7
    with pytest.raises(Stopped):
        first.fit()
    life = Life(tmp_path)
    assert (digest(life.attempt()), life.points) == whole
    assert len(life.steps) == 3 * 7


def test_a_wish_for_a_checkpoint_is_met_at_the_next_step_and_the_training_goes_on(
    tmp_path: Path, whole: tuple[str, dict[Any, float]]
) -> None:
    run = Run(tmp_path, **CONFIG)
    wishes = iter([False, False, True])
    run.trainer.context.should_save = lambda: next(wishes, False)
    run.fit()
    told = [e["step"] for e in run.events if e["event"] == "checkpoint"]
    assert told == [1, 16]  # of three batches, two make a step; and the end
    assert digest(run) == whole[0]


def test_a_checkpoint_that_stands_is_not_written_again(tmp_path: Path) -> None:
    Run(tmp_path, **CONFIG).fit()
    before = (tmp_path / "checkpoints" / LAST).stat().st_mtime_ns
    again = Run(tmp_path, **CONFIG).fit()
    assert (tmp_path / "checkpoints" / LAST).stat().st_mtime_ns == before
    assert not [e for e in again.events if e["event"] == "checkpoint"]


def test_a_damaged_file_never_takes_the_place_of_a_whole_one(
    tmp_path: Path,
    whole: tuple[str, dict[Any, float]],
    die_in_save: Callable[[str, int], None],
) -> None:
    life = Life(tmp_path)
    assert life.attempt(die_before=9) is None
    damage_file(life.home / "checkpoints" / LAST, 1001)
    die_in_save("rename aside", 1)
    assert life.attempt() is None
    die_in_save("", 0)
    run = life.attempt()
    assert (digest(run), life.points) == whole
    assert run is not None
    assert any("Goes on from a checkpoint" in e.get("text", "") for e in run.events)


def test_the_metrics_of_every_epoch_are_told_again(tmp_path: Path) -> None:
    told = [(step, {"loss": 1.0 / (step + 1)}) for step in range(12_000)]
    first, second = Run(tmp_path, stop_after=0), Run(tmp_path, stop_after=0)
    first.trainer.told = list(told)
    for run in (first, second):
        with pytest.raises(Stopped):
            run.fit()
    assert second.metrics == told


def test_a_scaled_loss_goes_on_with_its_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "half_precision", lambda device: torch.float16)

    def made(home: Path, **options: Any) -> Run:
        run = Run(home, noise=True, **options)
        assert run.trainer.learner.scaler.is_enabled()
        run.trainer.learner.scaler.set_growth_interval(5)
        return run

    straight = made(tmp_path / "whole").fit()
    assert straight.trainer.learner.scaler.get_scale() != 65536.0
    for stop in (3, 11, 25):
        with pytest.raises(Stopped):
            made(tmp_path / str(stop), stop_after=stop).fit()
        resumed = made(tmp_path / str(stop)).fit()
        assert digest(resumed) == digest(straight)
        assert resumed.metrics == straight.metrics
        scales = [
            one.trainer.learner.scaler.state_dict() for one in (resumed, straight)
        ]
        assert scales[0] == scales[1]


def test_a_checkpoint_without_a_scale_serves_where_the_loss_is_scaled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stopped):
        Run(tmp_path, stop_after=5).fit()
    monkeypatch.setattr(learner, "half_precision", lambda device: torch.float16)
    run = Run(tmp_path).fit()
    assert any("at step 5 of" in e.get("text", "") for e in run.events)


def test_a_setting_that_a_later_version_adds_leaves_a_checkpoint_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import dataclass

    with pytest.raises(Stopped):
        Run(tmp_path, stop_after=5).fit()

    @dataclass(frozen=True)
    class Later(trainer.TrainerConfig):
        dither: float = 0.0

    monkeypatch.setattr("tests.training.test_trainer.TrainerConfig", Later)
    run = Run(tmp_path).fit()
    assert any("at step 5 of" in e.get("text", "") for e in run.events)
    other = Run(tmp_path, dither=0.5)
    assert other.trainer.checkpoints.load() is None
