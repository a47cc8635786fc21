from __future__ import annotations

import pytest

from registry import tally
from registry.tally import BOUNDS, Tally, merged, quantile, shown


def test_figures_add_up_and_keep_the_greatest() -> None:
    one = {"a": 1, "greatest_b": 5.0, "inner": {"c": 1}}
    other = {"a": 2, "greatest_b": 3.0, "inner": {"c": 2, "d": 1}, "e": 1}
    assert merged(one, other) == {
        "a": 3, "greatest_b": 5.0, "inner": {"c": 3, "d": 1}, "e": 1,
    }  # fmt: skip
    assert merged({}, one) == one


def test_quantiles_are_near_the_truth() -> None:
    one = Tally()
    for n in range(1000):
        one.add(n / 1000, n % 10 == 0)
    found = shown(one.taken())
    assert (found["count"], found["errors"]) == (1000, 100)
    assert found["p50"] == pytest.approx(0.5, rel=0.2)
    assert found["p99"] == pytest.approx(0.99, rel=0.2)
    assert one.taken() == {}


def test_a_histogram_is_bounded_in_names_and_in_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tally, "AGED", 10)
    one = Tally()
    for seconds in (0.0, 1e-9, 1e9, *BOUNDS):
        one.add(seconds)
    taken = one.taken()
    assert len(taken["seconds"]) <= len(BOUNDS) + 1
    assert quantile(taken["seconds"], 1.0) == round(BOUNDS[-1], 6)
    found = merged({}, {"count": 12, "seconds": {"3": 11, "4": 1}})
    assert found == {"count": 12, "seconds": {"3": 5}}


def test_of_nothing_there_is_no_quantile() -> None:
    assert shown({}) == {"count": 0, "errors": 0, "p50": None, "p99": None}


def test_names_are_bounded() -> None:
    found: dict[str, int] = {}
    for n in range(1000):
        found = merged(found, {f"name{n}": 1, "name0": 1})
    assert len(found) == tally.MOST_NAMES
    assert found["name0"] == 1000
