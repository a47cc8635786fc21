"""Items of files as a model reads them: texts as numbers, empty texts left out, ids aside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from registry.dialect import read_number

NUMBERS = {"number", "integer"}
ID = "id"


class Typed:
    """What a signature says of the texts in a file."""

    def __init__(
        self, schema: Mapping[str, Any], *, decimal_comma: bool = False
    ) -> None:
        properties = schema.get("properties") or {}
        self.numbers = {n for n, one in properties.items() if types_of(one) & NUMBERS}
        self.keeps_id = not properties or ID in properties
        self.decimal_comma = decimal_comma

    def has_texts(self, item: Mapping[str, Any]) -> bool:
        """Whether `item` would change it."""
        for name in self.numbers:
            if type(item.get(name)) is str:
                return True
        return "" in item.values()

    def item(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The item with texts as numbers where the schema has numbers; empty texts left out."""
        numbers = self.numbers
        return {
            name: self._number(value)
            if type(value) is str and name in numbers
            else value
            for name, value in item.items()
            if value != ""
        }

    def for_model(self, item: Any) -> Any:
        """The item without an id that the signature does not name."""
        if self.keeps_id or type(item) is not dict or ID not in item:
            return item
        return {name: value for name, value in item.items() if name != ID}

    def _number(self, text: str) -> Any:
        number = read_number(text, decimal_comma=self.decimal_comma)
        return text if number is None or not math.isfinite(number) else number


def types_of(schema: Any) -> set[str]:
    """The types that a JSON Schema names."""
    types = schema.get("type", []) if isinstance(schema, Mapping) else []
    return {types} if isinstance(types, str) else set(types)


def single(schema: Any) -> Any:
    """The schema of the one value that a list always has, and so on within; else the schema."""
    while isinstance(schema, Mapping) and schema.get("maxItems") == 1:
        schema = schema.get("items")
    return schema
