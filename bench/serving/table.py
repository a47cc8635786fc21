"""The tables of a run, and Compass's budgets held to the best peer of the same run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.report import Report, Row
from bench.serving.catalog import BY_NAME, COMPASS
from bench.serving.measure import Figures, middle
from bench.serving.server import Cost

# Of a model at so many clients: at least so many times the best peer's rate.
RATIOS = {
    ("tiny", 64): 1.8, ("tiny", 8): 1.9, ("dta", 1): 1.3, ("dta", 8): 1.3, ("dta", 64): 1.3,
}  # fmt: skip
P50 = {("tiny", 1): 0.6}  # ms at most
P99 = {("tiny", 64): 15.0}  # ms at most
CPU = {("tiny", 64): 0.12}  # ms of processor time a request at most
SPREAD = {("dta", 64): 1.5}  # p99 / p50 at most

Cell = tuple[str, int]  # model, clients


@dataclass
class Found:
    """Everything that a run measured; servers by the names of their variants."""

    cells: dict[Cell, dict[str, list[Figures]]] = field(default_factory=dict)
    memory: dict[str, dict[str, Cost]] = field(default_factory=dict)
    bad: dict[str, dict[str, tuple[int, int, str]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, cell: Cell, name: str, one: Figures) -> None:
        self.cells.setdefault(cell, {}).setdefault(name, []).append(one)


def kind(name: str) -> str:
    """`fastapi` of `fastapi x2`."""
    return name.split(" ")[0]


def best(figures: Mapping[str, Figures]) -> str | None:
    """The fastest variant of the peers. One that answers wrongly is none."""
    rates = {
        name: one.rate
        for name, one in figures.items()
        if not is_ours(name)
        and not BY_NAME[kind(name)].is_empty
        and not one.wrong
        and one.rate > 0
    }
    return max(rates, key=rates.__getitem__) if rates else None


def table(cell: Cell, figures: Mapping[str, Figures]) -> Iterable[str]:
    """The lines of one cell; the ratio is to the best peer."""
    model, clients = cell
    peer = best(figures)
    columns = ("a second", "p50 ms", "p99 ms", "CPU ms", "/ best", "wrong", "errors")
    yield f"{f'{model}, {clients} clients':22}" + "".join(f"{c:>10}" for c in columns)
    for name, one in figures.items():
        ratio = f"{one.rate / figures[peer].rate:.2f}" if peer else "-"
        mark = f"  WRONG: {one.example}" if one.wrong else ""
        yield (
            f"{name:22}{one.rate:10.0f}{one.p50:10.2f}{one.p99:10.2f}{one.cpu:10.3f}"
            f"{ratio:>10}{one.wrong:10}{one.errors:10}{mark}"
        )


def judge(found: Found, report: Report) -> None:
    """Compass's rows with their budgets, and its faults as errors of the report.

    One variant of it is held to all budgets of a model, as a user sets it but once.
    """
    middles = {
        cell: {name: middle(some) for name, some in rounds.items()}
        for cell, rounds in found.cells.items()
    }
    for model in dict.fromkeys(model for model, _ in middles):
        cells = {cell: one for cell, one in middles.items() if cell[0] == model}
        names = {name for one in cells.values() for name in one}
        ours = sorted(name for name in names if is_ours(name))
        rows = [held_to(name, cells) for name in ours]
        report.rows += min(rows, key=misses, default=[])
    for (model, clients), figures in middles.items():
        for name, other in figures.items():
            if kind(name) == COMPASS and (other.wrong or other.errors):
                faults = f"{other.wrong} wrong, {other.errors} errors"
                where = f"{model}, {clients} clients, {name}"
                report.errors.append(f"{where}: {faults}: {other.example}")
    for model, some in found.bad.items():
        for name, (good, failed, _) in some.items():
            if kind(name) == COMPASS:
                what = f"{model}, {name}: failed of {good} good ones beside bad ones"
                report.add(what, failed, "", 0)


def is_ours(name: str) -> bool:
    return kind(name) == COMPASS


def misses(rows: Sequence[Row]) -> int:
    return sum(not row.is_met for row in rows)


def held_to(ours: str, cells: Mapping[Cell, Mapping[str, Figures]]) -> list[Row]:
    """The rows of one variant of Compass."""
    rows: list[Row] = []
    for cell, figures in cells.items():
        one, peer = figures.get(ours), best(figures)
        if one is None or not one.rate:
            continue
        about = f"{cell[0]}, {cell[1]} clients"
        if peer is not None:
            ratio = one.rate / figures[peer].rate
            what = f"{about}: {ours} / {peer}"
            rows.append(Row(what, ratio, "", RATIOS.get(cell), more=True))
        about = f"{about}: {ours}"
        rows += [
            Row(f"{about}, p50", one.p50, "ms", P50.get(cell)),
            Row(f"{about}, p99", one.p99, "ms", P99.get(cell)),
            Row(f"{about}, CPU a request", one.cpu, "ms", CPU.get(cell)),
        ]
        if cell in SPREAD:
            what = f"{about}, p99 / p50"
            rows.append(Row(what, one.p99 / one.p50, "", SPREAD[cell]))
    return rows


def others(found: Found) -> Iterable[str]:
    """The lines on memory, on bad requests and on what was not measured."""
    for model, memory in found.memory.items():
        yield f"{f'{model}, memory':25}{'PSS MB':>10}{'RSS MB':>10}"
        for name, cost in memory.items():
            yield f"{name:25}{cost.pss:10.0f}{cost.rss:10.0f}"
    for model, bad in found.bad.items():
        yield f"{f'{model}, 15 good + 1 bad':22}{'good':>10}{'failed':>10}"
        for name, (good, failed, text) in bad.items():
            yield f"{name:22}{good:10}{failed:10}  {text if failed else ''}".rstrip()
    for name, reason in found.missing.items():
        yield f"{name}: not measured: {reason}"


def lines(found: Found) -> Sequence[str]:
    """The whole of it, cell by cell."""
    some: list[str] = []
    for cell, rounds in found.cells.items():
        some += ["", *table(cell, {name: middle(one) for name, one in rounds.items()})]
    return [*some, "", *others(found)]
