"""JSON and texts of strangers that every database keeps: finite numbers, whole texts, no bombs."""

from __future__ import annotations

import json
import math
import re
from typing import Any

DEEPEST = 60  # levels
LARGEST = 2**64  # of a whole number
ODD = re.compile("[\x00\ud800-\udfff]")


def read_object(content: bytes) -> dict[str, Any]:
    """The object that stands there. Raises ValueError with what is wrong."""
    try:
        value = json.loads(
            content.decode("utf-8"), parse_constant=refuse, parse_float=finite
        )
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError as error:
        raise ValueError(why(error)) from None
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    _check(value, 0)
    return value


def why(error: ValueError) -> str:
    """What is wrong with JSON, as json says it but where that is meant for its caller."""
    said = str(error)
    is_long = "set_int_max_str_digits" in said
    return "a whole number has too many digits" if is_long else said


def text(value: object) -> str:
    """What it says, without a NUL, and with a ? for each half of a character."""
    return str(value).replace("\x00", "").encode("utf-8", "replace").decode()


def _check(value: Any, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError("it is nested too deep")
    if isinstance(value, str):
        if ODD.search(value):
            raise ValueError("a text holds a NUL or a lone surrogate")
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check(name, depth + 1)
            _check(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth + 1)
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError("a whole number is too large")


def refuse(name: str) -> float:
    """For json's `parse_constant`: NaN and the infinities. Raises ValueError."""
    raise ValueError(f"{name} is not a JSON number")


def finite(text: str) -> float:
    """For json's `parse_float`. Raises ValueError for a number beyond a double's."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value
