"""Counts that processes keep in memory and add up in a row: bounded whatever is counted.

Figures are JSON: numbers add up, those whose name begins with `greatest` keep the greatest, and
objects merge name by name. A histogram is an object from the number of a bucket to its count.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

STEP = 2**0.25  # from one bound to the next: a quantile is at most 19 % above the truth
BOUNDS = tuple(1e-4 * STEP**n for n in range(84))  # seconds, up to three minutes
AGED = 100_000  # answers in a histogram, of which half is then forgotten
SECONDS = "seconds"
MOST_NAMES = 128  # of one object; others are not counted
MOST = 1e308  # JSON has no infinity


class Tally:
    """Answers, the errors among them, and how long they took."""

    __slots__ = ("buckets", "count", "errors")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.count = self.errors = 0
        self.buckets = [0] * (len(BOUNDS) + 1)

    def add(self, seconds: float, is_error: bool = False) -> None:
        self.count += 1
        if is_error:
            self.errors += 1
        self.buckets[bisect_left(BOUNDS, seconds)] += 1

    def figures(self) -> dict[str, Any]:
        """What was counted; empty if nothing was."""
        if not self.count:
            return {}
        return {
            "count": self.count,
            "errors": self.errors,
            SECONDS: {str(n): one for n, one in enumerate(self.buckets) if one},
        }

    def taken(self) -> dict[str, Any]:
        """What was counted since the last time."""
        found = self.figures()
        self.reset()
        return found


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both figures as one."""
    found = dict(one)
    for name, value in other.items():
        if name not in found and len(found) >= MOST_NAMES:
            continue
        before = found.get(name)
        if isinstance(value, Mapping):
            inner = merged(before or {}, value)
            found[name] = _aged(inner) if name == SECONDS else inner
        elif name.startswith("greatest"):
            found[name] = max(before or 0, value)
        else:
            found[name] = min((before or 0) + value, MOST)
    return found


def shown(figures: Mapping[str, Any]) -> dict[str, Any]:
    """`{count, errors, p50, p99}` of a tally; quantiles in seconds, null where nothing was."""
    buckets = figures.get(SECONDS) or {}
    return {
        "count": figures.get("count", 0),
        "errors": figures.get("errors", 0),
        "p50": quantile(buckets, 0.5),
        "p99": quantile(buckets, 0.99),
    }


def quantile(buckets: Mapping[str, int], share: float) -> float | None:
    """The bound of the bucket that it falls in, in seconds."""
    left = share * sum(buckets.values())
    for number in sorted(int(one) for one in buckets):
        left -= buckets[str(number)]
        if left <= 0:
            return round(BOUNDS[min(number, len(BOUNDS) - 1)], 6)
    return None


def _aged(buckets: dict[str, int]) -> dict[str, int]:
    if sum(buckets.values()) <= AGED:
        return buckets
    return {number: half for number, one in buckets.items() if (half := one // 2)}
