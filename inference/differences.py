"""How far apart the outputs of two versions are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

FARTHEST = 1e308  # finite whatever numbers are apart, as JSON has no infinity


def difference(
    firsts: Sequence[Mapping[str, Any]], seconds: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Figures of two lists of outputs, in all and by the name of the output.

    `different` are items that differ in more than numbers.
    """
    found: dict[str, Any] = {
        **_none(), "different": 0, "first_errors": 0, "second_errors": 0, "outputs": {},
    }  # fmt: skip
    for one, other in zip(firsts, seconds, strict=True):
        found["first_errors"] += "error" in one
        found["second_errors"] += "error" in other
        if "error" in one or "error" in other:
            continue
        is_different = one.keys() != other.keys()
        for name in one.keys() & other.keys():
            gaps = list(_gaps(one[name], other[name]))
            is_different |= None in gaps
            own = found["outputs"].setdefault(name, _none())
            for gap in gaps:
                if gap is not None:
                    _count(found, gap)
                    _count(own, gap)
        found["different"] += is_different
    return found


def _none() -> dict[str, Any]:
    return {"values": 0, "difference": 0.0, "greatest_difference": 0.0}


def _count(figures: dict[str, Any], gap: float) -> None:
    figures["values"] += 1
    figures["difference"] = min(figures["difference"] + gap, FARTHEST)
    figures["greatest_difference"] = max(figures["greatest_difference"], gap)


def _gaps(one: Any, other: Any) -> Iterator[float | None]:
    """The distance of each pair of numbers; None for what differs otherwise."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            yield None
        for name in one.keys() & other.keys():
            yield from _gaps(one[name], other[name])
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            yield None
        for a, b in zip(one, other, strict=False):
            yield from _gaps(a, b)
    elif _is_number(one) and _is_number(other):
        yield _distance(one, other)
    elif one != other:
        yield None


def _distance(one: float, other: float) -> float:
    try:
        return min(abs(float(one) - float(other)), FARTHEST)
    except OverflowError:  # a whole number beyond all floats
        return FARTHEST


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
