"""What the benchmarks have in common: percentiles, a table with budgets, and results in JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Row:
    """One figure; `budget` is what it may be at most, or at least where `more` is better."""

    what: str
    value: float
    unit: str
    budget: float | None = None
    more: bool = False

    @property
    def is_met(self) -> bool:
        if self.budget is None:
            return True
        return self.value >= self.budget if self.more else self.value <= self.budget


@dataclass
class Report:
    """The figures of one benchmark; `errors` are counted, never left out."""

    name: str
    rows: list[Row] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)  # kept, not printed

    def add(
        self,
        what: str,
        value: float,
        unit: str,
        budget: float | None = None,
        *,
        more: bool = False,
    ) -> None:
        self.rows.append(Row(what, value, unit, budget, more))

    def finish(self) -> int:
        """Print the table and keep it; the exit status, 1 if a budget or a call failed."""
        print(f"\n{self.name}, {platform.machine()}, {os.cpu_count()} cores, load "
              f"{os.getloadavg()[0]:.1f}")  # fmt: skip
        for row in self.rows:
            bound, verdict = "", ""
            if row.budget is not None:
                bound = f"{'>=' if row.more else '<='} {row.budget:g}"
                verdict = "ok" if row.is_met else "MISSED"
            print(f"  {row.what:<58}{row.value:>11.4g} {row.unit:<5}{bound:>10}  {verdict}")  # fmt: skip
        for error in self.errors[:5]:
            print(f"  error: {error}")
        if self.errors:
            print(f"  {len(self.errors)} errors")
        self._keep()
        sys.stdout.flush()
        return 0 if not self.errors and all(row.is_met for row in self.rows) else 1

    def _keep(self) -> None:
        RESULTS.mkdir(exist_ok=True)
        kept: dict[str, Any] = {
            "name": self.name,
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "rows": [asdict(row) | {"is_met": row.is_met} for row in self.rows],
            "errors": self.errors,
            **({"details": self.details} if self.details else {}),
        }
        (RESULTS / f"{self.name}.json").write_text(json.dumps(kept, indent=1) + "\n")


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
