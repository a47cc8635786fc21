"""What a model's directory holds, by the recipe that its config.json names."""

from __future__ import annotations

from registry import recipes

ONNX = (
    "onnx"  # no recipe of training: a graph of standard operators, with no code in it
)
SAFETENSORS = "model.safetensors"
WEIGHTS = {ONNX: "model.onnx"}
PREDICTORS = {ONNX: "inference.onnx_model:Predictor"}


def is_code_free(recipe: str) -> bool:
    """Whether no code of a recipe is needed to serve it."""
    return recipe in PREDICTORS


def weights(recipe: str) -> str:
    """The name of the file with the weights."""
    return WEIGHTS.get(recipe, SAFETENSORS)


def predictor(recipe: str) -> str:
    """The dotted path of the class that serves it. Raises Problem `unknown_recipe`."""
    return PREDICTORS.get(recipe) or recipes.get(recipe).predictor
