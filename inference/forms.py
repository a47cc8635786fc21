"""The forms in which a batch is asked for and answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

AFFINITY = "affinity"  # the output of the recipe of that name
PAIR = {"protein": "sequence", "ligand": "smiles"}  # the older names of its inputs


@dataclass(frozen=True)
class Inputs:
    """Items as the model's signature has them."""

    name: str = "inputs"

    def as_input(self, item: Any) -> Any:
        return item

    def result(
        self, row: int, shown: Any, item: Any, answer: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The item, as it is shown, with its output or with the error that it alone has."""
        found: dict[str, Any] = {"row": row}
        names = shown if type(shown) is dict else item
        if type(names) is dict and "id" in names:
            found["id"] = names["id"]
        found["input"] = shown
        if "error" in answer:
            return {**found, "success": False, "error": answer["error"]}
        found["success"], found["output"] = True, answer
        return found


@dataclass(frozen=True)
class Pairs:
    """Protein and ligand, answered by their binding affinity."""

    name: str = "pairs"

    def as_input(self, item: Any) -> Any:
        if not isinstance(item, dict):
            return item
        return {new: item[old] for old, new in PAIR.items() if old in item}

    def result(
        self, row: int, shown: Any, item: Any, answer: Mapping[str, Any]
    ) -> dict[str, Any]:
        given = item if isinstance(item, dict) else {}
        pair = {"row": row, **dict.fromkeys(PAIR), **given}
        if "error" in answer:
            return {**pair, "success": False, "error": answer["error"]}
        rest = {name: value for name, value in answer.items() if name != AFFINITY}
        value = answer.get(AFFINITY)
        return {**pair, "success": True, "binding_affinity": value, **rest}


Form = Inputs | Pairs
PLAIN = Inputs()
FORMS: dict[str, Form] = {form.name: form for form in (PLAIN, Pairs())}
