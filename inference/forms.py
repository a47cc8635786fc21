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

    def result(self, item: Any, answer: Mapping[str, Any]) -> dict[str, Any]:
        """The item with its output, or with the error that it alone has."""
        if "error" in answer:
            return {"input": item, "success": False, "error": answer["error"]}
        return {"input": item, "success": True, "output": answer}


@dataclass(frozen=True)
class Pairs:
    """Protein and ligand, answered by their binding affinity."""

    name: str = "pairs"

    def as_input(self, item: Any) -> Any:
        if not isinstance(item, dict):
            return item
        return {new: item[old] for old, new in PAIR.items() if old in item}

    def result(self, item: Any, answer: Mapping[str, Any]) -> dict[str, Any]:
        pair = dict.fromkeys(PAIR) | (item if isinstance(item, dict) else {})
        if "error" in answer:
            return {**pair, "success": False, "error": answer["error"]}
        rest = {name: value for name, value in answer.items() if name != AFFINITY}
        value = answer.get(AFFINITY)
        return {**pair, "success": True, "binding_affinity": value, **rest}


Form = Inputs | Pairs
FORMS: dict[str, Form] = {form.name: form for form in (Inputs(), Pairs())}
