"""How often one may ask, as the setting says it: `read=100/s`, `write=600/m`, `/api/v1/scripts=20/h`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

RATE = re.compile(r"(read|write|/[!-<>-~]+)=([1-9][0-9]{0,8})/([smhd])")
PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds
NAMES = {"s": "second", "m": "minute", "h": "hour", "d": "day"}


@dataclass(frozen=True)
class Rule:
    """`name` is read, write, or the path of a route and of all below it."""

    name: str
    number: int
    unit: str

    @property
    def gap(self) -> float:
        return PERIODS[self.unit] / self.number

    def __str__(self) -> str:
        what = {"read": "reading requests", "write": "writing requests"}
        named = what.get(self.name, f"requests to {self.name}")
        return f"{self.number:,} {named} per {NAMES[self.unit]}"


def read(texts: Sequence[str]) -> list[Rule]:
    """The rules of the setting, the longest paths first. Raises ValueError."""
    rules = []
    for text in texts:
        match = RATE.fullmatch(text.strip())
        if match is None:
            raise ValueError(
                f"{text!r} is not like read=100/s, write=600/m or /api/v1/scripts=20/h."
            )
        rules.append(Rule(match[1].rstrip("/"), int(match[2]), match[3]))
    if len({rule.name for rule in rules}) < len(rules):
        raise ValueError("A name stands there twice.")
    return sorted(rules, key=lambda rule: -len(rule.name))
