"""Lists of items as they come in: strict JSON, or left to the lane that explains."""

from __future__ import annotations

import json
from typing import Any

MOST = 1000  # items of one request that is answered at once
DEEPEST = 62  # levels of an item's list; two more stand around it in a body
ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
HUGE = (b"e000", b"E000", b"e+000", b"E+000", b"0" * 300)  # may be no finite number


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


_decoder = json.JSONDecoder(parse_constant=_refuse)


def strict_items(text: bytes) -> list[Any] | None:
    """The items of a JSON list; None for all that a request may not hold, or hardly ever does.

    What it refuses is a little more than what is wrong: a text with an escape that might be half a
    surrogate pair, a number that might be infinite.
    """
    if b"\\u" in text:
        return None
    digits = text.translate(ZEROS)
    if any(one in digits for one in HUGE):
        return None
    try:
        items = _decoder.decode(text.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(items, list) or not 0 < len(items) <= MOST:
        return None
    if text.count(b"[") + text.count(b"{") > DEEPEST and _is_deep(items, DEEPEST):
        return None
    return items


def _is_deep(value: Any, left: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value
    return left < 0 or any(
        _is_deep(one, left - 1) for one in inner if type(one) in (list, dict)
    )
