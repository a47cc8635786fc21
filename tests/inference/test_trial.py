"""The first loading of a stranger's model: in a process of its own, within limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry import store, trial, turns
from registry.errors import Problem
from tests.registry.model_archives import SIZED, files

PREDICTOR = "tests.inference.sized:Predictor"


@pytest.fixture
def refuse() -> Any:
    """Try the model of that config out; what is said against it."""

    def refuse(**config: Any) -> str:
        whole = {**SIZED, "config": {"width": 4, **config}}
        with pytest.raises(Problem) as caught:
            trial.run(directory(**{"config.json": whole}), PREDICTOR)
        assert caught.value.code == "bad_model"
        assert str(store.root()) not in caught.value.detail
        return caught.value.detail

    return refuse


def directory(**changes: Any) -> Path:
    root = store.aside()
    root.mkdir()
    for name, content in files(**changes).items():
        (root / name).write_bytes(content)
    return root


def test_a_whole_model_passes() -> None:
    signature = {"inputs": {}, "outputs": {}, "examples": [{"x": 1}]}
    found = trial.run(directory(**{"signature.json": signature}), PREDICTOR)
    assert (found["signature"], found["bytes"]) == (None, 16)


def test_a_config_that_asks_for_a_terabyte_is_refused(refuse: Any) -> None:
    assert "bytes of memory" in refuse(width=10**12)


def test_a_config_that_asks_for_more_than_it_may_have_is_refused(refuse: Any) -> None:
    # A machine that promises more than it has would kill whom it likes.
    assert "bytes of memory" in refuse(width=300 * 10**6)


def test_a_model_that_ends_the_process_is_refused(refuse: Any) -> None:
    assert "code 9" in refuse(end=True)


def test_a_model_that_takes_for_ever_is_refused(
    refuse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "LONGEST", 3.0)
    assert "longer than 3 s" in refuse(sleep=True)


def test_files_that_do_not_fit_together_are_refused_in_words(refuse: Any) -> None:
    assert "(4,) is not (5,)" in refuse(width=5)


def test_the_model_sees_no_secret_and_no_path_gets_out(
    refuse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPASS_SECRET_KEY", "secret")
    text = refuse(secrets=True)
    assert "knows []" in text
    assert "at config.json" in text


@pytest.mark.parametrize("examples", [[{"x": "a"}], [{}], "abc", [[]]])
def test_examples_that_the_model_does_not_take_are_refused(examples: Any) -> None:
    signature = {"inputs": {}, "outputs": {}, "examples": examples}
    with pytest.raises(Problem) as caught:
        trial.run(directory(**{"signature.json": signature}), PREDICTOR)
    assert caught.value.code == "bad_model"
    assert "example" in caught.value.detail


def test_one_model_at_a_time_is_tried_out_on_a_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "PATIENCE", 0.01)
    # As any other process of it: each opening of the file holds a lock of its own.
    other = turns.turn("model-trial", trial.AT_ONCE)
    with other, pytest.raises(Problem) as caught:
        trial.run(directory(), PREDICTOR)
    assert (caught.value.code, caught.value.retry_after) == ("busy", 10)
