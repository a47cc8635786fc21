"""What a tabular model takes and gives, as JSON Schemas with examples."""

from __future__ import annotations

from typing import Any

from training.recipes.tabular.dataset import Dataset
from training.recipes.tabular.recipe import OUTPUTS


def make_signature(data: Dataset) -> dict[str, Any]:
    """`inputs` and `outputs` of the model that learns from `data`, and `examples` of inputs.

    Columns that the model does not read may be given, so that whole rows can be sent.
    """
    properties: dict[str, Any] = {one.name: one.schema() for one in data.columns}
    for name in data.ignored:
        properties[name] = {"description": "not used"}
    outputs = OUTPUTS[data.target.task]
    if data.target.labels:
        labels = list(data.target.labels)
        outputs = {
            **outputs,
            "properties": {**outputs["properties"], "class": {"enum": labels}},
        }
    return {
        "inputs": {
            "type": "object",
            "properties": properties,
            "required": [one.name for one in data.columns if not one.may_be_missing],
            "additionalProperties": False,
        },
        "outputs": outputs,
        "target": data.target.name,
        "examples": list(data.examples),
    }
