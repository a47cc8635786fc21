from __future__ import annotations

import errno
import hashlib
import io
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.checkpoints import LAST, PREVIOUS, Checkpoints
from training.randomness import random_state, seed_everything, set_random_state


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def checkpoints(tmp_path: Path, notes: list[str]) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", "this", notes.append)


def test_what_was_saved_last_is_loaded(checkpoints: Checkpoints) -> None:
    checkpoints.save({"step": 1, "weights": {"a": torch.arange(3.0)}})
    checkpoints.save({"step": 2, "weights": {"a": torch.arange(4.0)}})
    state = checkpoints.load()
    assert state is not None
    assert state["step"] == 2
    assert torch.equal(state["weights"]["a"], torch.arange(4.0))


def test_without_a_checkpoint_there_is_nothing_to_load(
    checkpoints: Checkpoints,
) -> None:
    assert checkpoints.load() is None


@pytest.mark.parametrize("keep", [0, 10, 70, 200])
def test_a_cut_file_falls_back_to_the_one_before(
    checkpoints: Checkpoints, notes: list[str], keep: int
) -> None:
    checkpoints.save({"step": 1})
    checkpoints.save({"step": 2})
    last = checkpoints.directory / LAST
    last.write_bytes(last.read_bytes()[:keep])
    assert checkpoints.load() == {"step": 1}
    assert "damaged" in notes[0]


def test_a_flipped_bit_falls_back_to_the_one_before(checkpoints: Checkpoints) -> None:
    checkpoints.save({"step": 1})
    checkpoints.save({"step": 2})
    last = checkpoints.directory / LAST
    content = bytearray(last.read_bytes())
    content[-20] ^= 1
    last.write_bytes(content)
    assert checkpoints.load() == {"step": 1}


@pytest.mark.parametrize("harm", ["directory", "format", "kind", "list"])
def test_a_file_of_another_kind_falls_back_to_the_one_before(
    checkpoints: Checkpoints, notes: list[str], harm: str
) -> None:
    checkpoints.save({"step": 1})
    checkpoints.save({"step": 2})
    last = checkpoints.directory / LAST
    last.unlink()
    if harm == "directory":
        last.mkdir()
    else:
        buffer = io.BytesIO()
        content: Any = {"format": {"format": 2}, "kind": Path("x"), "list": [1]}[harm]
        torch.save(content, buffer)
        digest = hashlib.sha256(buffer.getvalue()).hexdigest().encode()
        last.write_bytes(digest + b"\n" + buffer.getvalue())
    assert checkpoints.load() == {"step": 1}
    assert "damaged" in notes[0]


def test_a_full_disk_keeps_the_last_and_leaves_no_part(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.save({"step": 1})

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        checkpoints.save({"step": 2})
    assert [one.name for one in checkpoints.directory.iterdir()] == [LAST]
    assert checkpoints.load() == {"step": 1}


def test_both_damaged_means_from_the_start(
    checkpoints: Checkpoints, notes: list[str]
) -> None:
    for step in (1, 2):
        checkpoints.save({"step": step})
    for name in (LAST, PREVIOUS):
        (checkpoints.directory / name).write_bytes(b"nothing")
    assert checkpoints.load() is None
    assert len(notes) == 2


def test_a_crash_between_both_renames_loses_nothing(checkpoints: Checkpoints) -> None:
    checkpoints.save({"step": 1})
    (checkpoints.directory / LAST).rename(checkpoints.directory / PREVIOUS)
    assert checkpoints.load() == {"step": 1}


def test_a_crash_while_writing_leaves_the_last(checkpoints: Checkpoints) -> None:
    checkpoints.save({"step": 1})
    (checkpoints.directory / (LAST + ".part")).write_bytes(b"half")
    assert checkpoints.load() == {"step": 1}
    checkpoints.save({"step": 2})
    assert checkpoints.load() == {"step": 2}


def test_a_checkpoint_of_another_training_is_passed_over(
    checkpoints: Checkpoints, notes: list[str]
) -> None:
    checkpoints.save({"step": 1})
    other = Checkpoints(checkpoints.directory, "other", notes.append)
    assert other.load() is None
    assert "other parameters or data" in notes[0]


def test_random_numbers_go_on_where_they_were(checkpoints: Checkpoints) -> None:
    seed_everything(5)
    np.random.standard_normal()
    checkpoints.save({"random": random_state()})

    def draw() -> list[float]:
        return [
            random.random(),
            np.random.rand(),
            np.random.standard_normal(),
            torch.rand(()).item(),
        ]

    wanted = draw()
    seed_everything(6)
    state = checkpoints.load()
    assert state is not None
    set_random_state(state["random"])
    assert draw() == wanted


def test_the_states_of_all_gpus_are_kept_and_given_back(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = {n: torch.full((16,), n, dtype=torch.uint8) for n in range(3)}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(gpus.values()))
    checkpoints.save({"random": random_state()})
    given: dict[int, torch.Tensor] = {}
    monkeypatch.setattr(
        torch.cuda,
        "set_rng_state",
        lambda state, device: given.__setitem__(device, state),
    )
    state = checkpoints.load()
    assert state is not None
    for count in (3, 2, 0):
        given.clear()
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        set_random_state(state["random"])
        assert {n: int(one[0]) for n, one in given.items()} == dict(
            zip(range(count), range(count), strict=True)
        )
