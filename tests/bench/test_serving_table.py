"""How the serving comparison judges what it measured."""

from __future__ import annotations

import dataclasses
import math

import pytest

from bench.report import Report
from bench.serving import table
from bench.serving.load import Load
from bench.serving.measure import Figures, as_json, figures, middle
from bench.serving.server import Cost
from bench.serving.table import Found

TINY, DTA = ("tiny", 64), ("dta", 64)


def measured(rate: float, **more: float) -> Figures:
    return dataclasses.replace(Figures(rate, 5.0, 6.0, 0.1), **more)  # type: ignore[arg-type]


def found(cell: table.Cell, **rates: Figures) -> Found:
    one = Found()
    for name, some in rates.items():
        one.add(cell, f"{name} x1", some)
    return one


def judged(one: Found) -> Report:
    report = Report("serving")
    table.judge(one, report)
    return report


def missed(one: Found) -> list[str]:
    return [row.what for row in judged(one).rows if not row.is_met]


def test_the_ratio_is_to_the_fastest_peer_that_answers_rightly() -> None:
    one = found(
        TINY, compass=measured(1800), empty=measured(9000), fastapi=measured(900),
        litserve=measured(1000), mlserver=measured(5000, wrong=1),
    )  # fmt: skip
    row = judged(one).rows[0]
    assert row.what == "tiny, 64 clients: compass x1 / litserve x1"
    assert (row.value, row.budget) == (pytest.approx(1.8), 1.8)
    assert row.is_met


def test_the_fastest_variant_of_a_peer_is_what_counts() -> None:
    one = found(DTA, compass=measured(260), fastapi=measured(100))
    one.add(DTA, "fastapi x2", measured(200))
    assert judged(one).rows[0].what == "dta, 64 clients: compass x1 / fastapi x2"
    assert judged(one).rows[0].value == pytest.approx(1.3)


def test_one_variant_of_compass_is_held_to_all_budgets_of_a_model() -> None:
    """The one that misses the fewest; of two alike the smaller."""
    one = found(DTA, compass=measured(140), fastapi=measured(100))
    one.add(DTA, "compass x2", measured(200, p99=8.0))
    one.add(("dta", 1), "compass x1", measured(140))
    one.add(("dta", 1), "compass x2", measured(200))
    one.add(("dta", 1), "fastapi x1", measured(100))
    assert missed(one) == []
    assert {"compass x1" in row.what for row in judged(one).rows} == {True}
    one.add(DTA, "fastapi x2", measured(150))
    assert missed(one) == ["dta, 64 clients: compass x1 / fastapi x2"]
    one.cells[DTA]["compass x2"] = [measured(200)]
    assert missed(one) == []
    assert {"compass x2" in row.what for row in judged(one).rows} == {True}


def test_each_budget_that_is_missed_is_told() -> None:
    tiny = found(TINY, compass=measured(1, p99=16, cpu=0.13), fastapi=measured(1))
    assert missed(tiny) == [
        "tiny, 64 clients: compass x1 / fastapi x1",
        "tiny, 64 clients: compass x1, p99",
        "tiny, 64 clients: compass x1, CPU a request",
    ]
    dta = found(DTA, compass=measured(2, p99=8), fastapi=measured(1))
    assert missed(dta) == ["dta, 64 clients: compass x1, p99 / p50"]
    alone = found(("tiny", 1), compass=measured(1, p50=0.7))
    assert missed(alone) == ["tiny, 1 clients: compass x1, p50"]


def test_a_run_of_compass_alone_has_no_ratio() -> None:
    report = judged(found(TINY, compass=measured(1), empty=measured(2)))
    assert not [row for row in report.rows if " / " in row.what]


def test_a_fault_of_compass_is_an_error_and_one_of_a_peer_a_mark() -> None:
    one = found(
        TINY, compass=measured(9, errors=2, example="503"),  # type: ignore[arg-type]
        fastapi=measured(1, wrong=1, example="1 instead of 2"),  # type: ignore[arg-type]
    )  # fmt: skip
    assert judged(one).errors == [
        "tiny, 64 clients, compass x1: 0 wrong, 2 errors: 503"
    ]
    lines = table.lines(one)
    assert [line for line in lines if "WRONG" in line] == [
        line for line in lines if line.startswith("fastapi")
    ]
    assert any(line.endswith("WRONG: 1 instead of 2") for line in lines)


def test_no_good_request_of_compass_may_fail_beside_a_bad_one() -> None:
    one = Found(bad={"tiny": {"compass x1": (100, 1, "500"), "fastapi x1": (9, 9, "")}})
    (row,) = judged(one).rows
    assert row.what == "tiny, compass x1: failed of 100 good ones beside bad ones"
    assert not row.is_met


def test_what_is_not_measured_is_said_with_its_reason() -> None:
    one = Found(missing={"ray_serve x1, tiny": "not installed"})
    one.memory = {"tiny": {"compass x1": Cost(1.0, 284.3, 300.0)}}
    lines = table.lines(one)
    assert "ray_serve x1, tiny: not measured: not installed" in lines
    assert any(line.split() == ["compass", "x1", "284", "300"] for line in lines)


def test_of_several_rounds_the_median_counts_and_no_fault_is_lost() -> None:
    rounds = [measured(1, wrong=1), measured(9), measured(2, errors=3)]
    one = middle(rounds)
    assert (one.rate, one.wrong, one.errors) == (2, 1, 3)


def test_only_right_answers_make_a_rate() -> None:
    load = Load(0, "/", {}, [b""], [1.0], 2.0, times=[0.001] * 98 + [0.5] * 2)
    load.fault("error", "503")
    one = figures(load, 2.0, 0.202)
    assert (one.rate, one.errors, one.example) == (50, 1, "503")
    assert (one.p50, one.p99) == (pytest.approx(1), pytest.approx(500))
    assert one.cpu == pytest.approx(2)  # ms a request, failed ones too


def test_a_server_that_never_answers_has_a_rate_of_nothing() -> None:
    one = figures(Load(0, "/", {}, [b""], [1.0], 2.0), 2.0, 0.0)
    assert one.rate == 0
    assert math.isnan(one.p50)
    assert table.best({"fastapi x1": one}) is None
    assert as_json([one])["p50"] is None
