"""The older scheduler's ways to write times, memory, variables and states."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from registry.resources import GIB
from registry.states import State

STATES = {
    State.PENDING: "PENDING",
    State.ASSIGNED: "PENDING",
    State.RUNNING: "RUNNING",
    State.PAUSED: "PENDING",
    State.COMPLETED: "COMPLETED",
    State.FAILED: "FAILED",
    State.CANCELLED: "CANCELLED",
}
NO_LIMIT = ("UNLIMITED", "INFINITE", "NONE", "")
LONGEST = 366 * 24 * 3600  # seconds
TIME = re.compile(
    r"(?:(?P<days>\d{1,4})-(?P<h>\d{1,4})(?::(?P<m>\d{1,2}))?(?::(?P<s>\d{1,2}))?"
    r"|(?P<hours>\d{1,5}):(?P<minutes>\d{1,2})(?::(?P<seconds>\d{1,2}))?"
    r"|(?P<alone>\d{1,7}))\Z",
    re.ASCII,
)
MEMORY = re.compile(r"(\d{1,15})(?:\.(\d{1,3}))?\s*([kmgt]?)(i?b)?\Z", re.I | re.ASCII)
UNITS = {"k": 1024, "m": 1024**2, "g": GIB, "t": 1024 * GIB}  # bytes


def seconds(text: str) -> int | None:
    """`30` is minutes; `H:MM`, `H:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`; None without a limit.

    Raises ValueError with what is wrong.
    """
    text = text.strip()
    if text.upper() in NO_LIMIT:
        return None
    match = TIME.match(text)
    if match is None:
        raise ValueError("must be minutes, H:MM, H:MM:SS or D-HH:MM:SS")
    part = {name: int(number or 0) for name, number in match.groupdict().items()}
    if max(part["m"], part["s"], part["minutes"], part["seconds"]) > 59:
        raise ValueError("has minutes or seconds above 59")
    hours = part["days"] * 24 + part["h"] + part["hours"]
    minutes = hours * 60 + part["m"] + part["minutes"] + part["alone"]
    total = minutes * 60 + part["s"] + part["seconds"]
    if total == 0:
        raise ValueError("must be more than zero; leave it out for no limit")
    if total > LONGEST:
        raise ValueError("must be 366 days at most")
    return total


def memory(text: str) -> int:
    """Bytes of `4G`, `512M`, `1.5GB` or `1024`, which are megabytes; 0 is no limit.

    Raises ValueError with what is wrong.
    """
    match = MEMORY.match(text.strip())
    if match is None:
        raise ValueError("must be like 4G, 512M or 1024 for megabytes")
    number = float(f"{match[1]}.{match[2] or 0}")
    total = int(number * UNITS[match[3].lower() or "m"])
    if total > 2**50:
        raise ValueError("must be 1024T at most")
    return total


def variables(given: Any) -> dict[str, str]:
    """An object, a list of NAME=VALUE, or such a list in one text with commas between.

    Raises ValueError with what is wrong.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(name): _value(value) for name, value in given.items()}
    if isinstance(given, str):
        # A comma parts only where a name follows it, for a value may hold commas.
        given = re.split(r",(?=[A-Za-z_]\w*=)", given) if given.strip() else []
    found = {}
    for one in given if isinstance(given, list) else [given]:
        name, equals, value = (
            one.partition("=") if isinstance(one, str) else ("", "", "")
        )
        if not equals:
            raise ValueError("must be an object, or a list of NAME=VALUE")
        found[name.strip()] = value
    return found


def _value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise ValueError("has a value that is no text")
    return "" if value is None else str(value)
