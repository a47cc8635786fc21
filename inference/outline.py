"""A quick look at an item: whether it has the names and the kinds of value of a signature.

What stands deeper is the predictor's to read; a full validation costs more than many a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from operator import contains
from types import NoneType
from typing import Any

KINDS: dict[str, frozenset[type]] = {
    # A text where a number belongs was read as one, or the predictor has refused it.
    "number": frozenset((int, float, str)),
    "integer": frozenset((int, float, str)),
    "string": frozenset((str,)),
    "boolean": frozenset((bool,)),
    "array": frozenset((list,)),
    "object": frozenset((dict,)),
    "null": frozenset((NoneType,)),
}
MOST = 256  # signatures that are kept

_outlines: dict[str, tuple[Mapping[str, Any], Outline]] = {}


class Outline:
    """The upper level of a signature's JSON Schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        properties = schema.get("properties")
        self.properties = properties if isinstance(properties, Mapping) else {}
        required = schema.get("required")
        self.required = [*required] if isinstance(required, list) else []
        self.is_closed = schema.get("additionalProperties") is False
        kinds = {name: _kinds(one) for name, one in self.properties.items()}
        self.kinds = {name: some for name, some in kinds.items() if some is not None}

    def is_met(self, item: Any) -> bool:
        if not isinstance(item, dict):
            return False
        for name in self.required:
            if name not in item:
                return False
        for name, value in item.items():
            some = self.kinds.get(name)
            if some is None:
                if self.is_closed and name not in self.properties:
                    return False
            elif type(value) not in some:
                return False
        return True

    def are_met(self, items: Sequence[Any]) -> bool:
        """Whether all items are, by a few looks at all of them at once."""
        if set(map(type, items)) != {dict}:
            return all(map(self.is_met, items))
        names: set[Any] = set().union(*items)
        if self.is_closed and not names <= self.properties.keys():
            return False
        for name in self.required:
            if not all(map(contains, items, repeat(name))):
                return False
        for name in names & self.kinds.keys():
            found = {type(item[name]) for item in items if name in item}
            if not found <= self.kinds[name]:
                return False
        return True


def of(digest: str, schema: Mapping[str, Any]) -> Outline:
    """The outline of that version's signature, kept from one batch to the next."""
    kept = _outlines.get(digest)
    if kept is not None and (kept[0] is schema or kept[0] == schema):
        return kept[1]
    if len(_outlines) >= MOST:
        _outlines.clear()
    found = Outline(schema)
    _outlines[digest] = schema, found
    return found


def _kinds(schema: Any) -> frozenset[type] | None:
    """The types of value that it takes; None if it does not say."""
    named = schema.get("type") if isinstance(schema, Mapping) else None
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not all(
        isinstance(name, str) and name in KINDS for name in names
    ):
        return None
    return frozenset().union(*(KINDS[name] for name in names))
