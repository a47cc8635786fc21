"""The JSON Schemas of strangers: words that cost little to check and reach nothing outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

# Of the words that a validator obeys, those without references, which may go on for ever or to
# other hosts, and without patterns, which may take for ever to match.
PLAIN = frozenset(
    (
        *("type", "enum", "const", "minimum", "maximum", "multipleOf", "required"),
        *("exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "format"),
        *("minItems", "maxItems", "minProperties", "maxProperties"),
    )
)
OBEYED = frozenset(Draft202012Validator.VALIDATORS)
INNER = frozenset(("items", "additionalProperties", "not"))
LISTS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))
MOST = 20_000  # schemas within one


def check(schema: Any) -> None:
    """Raises ValueError that names the word which is not taken."""
    _Walk().look(schema, 0)


class _Walk:
    def __init__(self) -> None:
        self.count = 0

    def look(self, schema: Any, depth: int) -> None:
        self.count += 1
        if self.count > MOST or depth > 20:
            raise ValueError("it is too large or nested too deep")
        if isinstance(schema, bool):
            return
        if not isinstance(schema, Mapping):
            raise ValueError("a schema is an object")
        for word, value in schema.items():
            if word == "type" and not _are_types(value):
                raise ValueError(f"{str(value)[:60]!r} is no type")
            if word == "required" and not _are_names(value):
                raise ValueError("required is no list of names")
            if word in PLAIN or (word not in OBEYED and not word.startswith("$")):
                continue  # a limit, or a remark
            if word == "properties" and isinstance(value, Mapping):
                inner = list(value.values())
            elif word in INNER:
                inner = [value]
            elif word in LISTS and isinstance(value, list):
                inner = value
            else:
                raise ValueError(f"the word {str(word)[:60]!r} is not taken")
            for one in inner:
                self.look(one, depth + 1)


def _are_types(value: Any) -> bool:
    some = value if isinstance(value, list) else [value]
    return all(isinstance(one, str) and one in TYPES for one in some)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
