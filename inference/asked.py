"""Lists of items as they come in: strict JSON, or left to the lane that explains."""

from __future__ import annotations

from typing import Any

import orjson

MOST = 1000  # items of one request that is answered at once
DEEPEST = 62  # levels of an item's list; two more stand around it in a body
ALIKE = bytes.maketrans(b"123456789{", b"000000000[")
LONG = b"0" * 19  # digits in a row: perhaps a whole number that orjson would round
NUL = rb"\u0000"


def strict_items(text: bytes) -> list[Any] | None:
    """The items of a JSON list; None for all that a request may not hold, or hardly ever does.

    orjson itself refuses NaN, infinities, halves of surrogate pairs and what is no UTF-8.
    """
    alike = text.translate(ALIKE)
    # A single byte is soon found not to be there, two of them are not.
    if LONG in alike or (b"\\" in text and NUL in text):
        return None
    try:
        items = orjson.loads(text)
    except ValueError:
        return None
    if not isinstance(items, list) or not 0 < len(items) <= MOST:
        return None
    if alike.count(b"[") > DEEPEST and _is_deep(items, DEEPEST):
        return None
    return items


def _is_deep(value: Any, left: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value
    return left < 0 or any(
        _is_deep(one, left - 1) for one in inner if type(one) in (list, dict)
    )
