from __future__ import annotations

import os
from pathlib import Path

import pytest

import manage


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPASS_DATA_DIR", "/before")


@pytest.mark.parametrize(
    "given",
    [["--data-dir", "/there"], ["--data-dir=/there"], ["x", "--data-dir=/there"]],
)
def test_any_command_takes_a_data_directory(given: list[str]) -> None:
    arguments = ["manage.py", "tasks", *given]
    manage.choose_data_dir(arguments)
    assert os.environ["COMPASS_DATA_DIR"] == "/there"
    assert not any("data-dir" in one or one == "/there" for one in arguments)


@pytest.mark.parametrize(
    "given", [["--data-dir"], ["--data-dir="], ["--data-dir", "--x"]]
)
def test_a_missing_directory_is_left_to_the_command_to_refuse(given: list[str]) -> None:
    arguments = ["manage.py", "up", *given]
    manage.choose_data_dir(arguments)
    assert os.environ["COMPASS_DATA_DIR"] == "/before"
    assert arguments == ["manage.py", "up", *given]


def test_the_demo_gets_a_directory_of_its_own() -> None:
    manage.choose_data_dir(["manage.py", "demo"])
    fresh = Path(os.environ["COMPASS_DATA_DIR"])
    assert fresh.name.startswith("compass-demo-")
    assert list(fresh.iterdir()) == []
    fresh.rmdir()


def test_the_served_demo_keeps_the_usual_directory() -> None:
    manage.choose_data_dir(["manage.py", "demo", "--serve"])
    assert os.environ["COMPASS_DATA_DIR"] == "/before"
