"""Turns that all processes of a machine take."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.conf import settings

from registry.turns import turn

HOLD = """
import sys
import django
django.setup()
from registry.turns import turn
with turn("cake", 2):
    print("within", flush=True)
    sys.stdin.read()
"""


def test_no_more_than_so_many_are_within_and_a_place_that_is_left_is_taken() -> None:
    with turn("cake", 2):
        with turn("cake", 2), turn("tea", 2), pytest.raises(TimeoutError):
            wait_for_cake()
        wait_for_cake()


def wait_for_cake() -> None:
    with turn("cake", 2, seconds=0.01):
        pass


def test_whoever_waits_is_told_and_may_end_that() -> None:
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            raise InterruptedError

    with turn("cake", 1), pytest.raises(InterruptedError), turn("cake", 1, tick=tick):
        pass
    with turn("cake", 1, seconds=0.01):
        pass


def test_a_process_that_dies_within_leaves_its_place_to_another() -> None:
    environment = {**os.environ, "COMPASS_DATA_DIR": str(settings.DATA_DIR)}
    environment["DJANGO_SETTINGS_MODULE"] = "compass.settings"
    other = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HOLD], env=environment, text=True,
        cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with other, ExitStack() as taken:
        assert other.stdout is not None
        assert other.stdout.readline() == "within\n"
        taken.enter_context(turn("cake", 2, seconds=0.01))
        with pytest.raises(TimeoutError):
            taken.enter_context(turn("cake", 2, seconds=0.01))
        other.kill()
        taken.enter_context(turn("cake", 2, seconds=20))
