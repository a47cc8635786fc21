"""The affinity recipe as data: how strongly a small molecule binds to a protein."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from registry.recipes import Params, Recipe
from registry.resources import GIB, Resources

NAME = "affinity"
MAX_SMILES, MAX_SEQUENCE = (
    4_000,
    36_000,
)  # characters; the longest human protein has 35,991

Split = Literal["auto", "given", "random", "cold_ligand", "cold_protein", "cold_both"]
Fraction = Annotated[float, Field(ge=0, le=1)]


class AffinityParams(Params):
    """Parameters of the ensemble of towers and of the kernel model beside it."""

    epochs: int = Field(
        20, ge=1, le=10_000, description="passes over the training pairs"
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = Field(
        "auto", description="pairs in one batch; auto makes about 16 batches"
    )
    learning_rate: float = Field(3e-3, gt=0, le=1, description="highest learning rate")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="decay of the weights")
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop"] = Field(
        "adamw", description="how a step is made of the gradients"
    )
    schedule: Literal["one_cycle", "cosine", "constant"] = Field(
        "one_cycle", description="how the learning rate goes"
    )
    warmup: float = Field(
        0.1, ge=0, lt=1, description="fraction of the steps in which the rate rises"
    )
    accumulation: int = Field(1, ge=1, le=256, description="batches for one step")
    clip_norm: float | None = Field(
        None, gt=0, le=1e6, description="largest norm of each member's gradient"
    )
    patience: int | None = Field(
        None, ge=1, le=10_000, description="stop after so many epochs without gain"
    )
    precision: Literal["auto", "full"] = Field(
        "auto", description="auto uses half precision on a GPU"
    )
    members: int = Field(3, ge=1, le=64, description="networks in the ensemble")
    hidden: int = Field(128, ge=4, le=2048, description="units of the hidden layers")
    width: int = Field(64, ge=4, le=1024, description="size of an entity's vector")
    head: int = Field(64, ge=4, le=1024, description="units of the last hidden layer")
    dropout: float = Field(0.1, ge=0, le=0.9, description="share of units left out")
    columns: int = Field(
        1024, ge=8, le=8192, description="most training entities to compare with"
    )
    protein_similarity: Literal["auto", "alignment", "kmers"] = Field(
        "auto",
        description="Smith-Waterman, or 3-mers only; auto aligns if that is quick",
    )
    kernel_lambda: float = Field(
        0.2, gt=0, le=1000, description="ridge of the kernel model"
    )
    blend: Fraction | Literal["auto"] = Field(
        "auto", description="weight of the networks against the kernel model"
    )
    floor: Literal["auto", "none"] = Field(
        "auto", description="auto finds a lowest value that means 'no binding seen'"
    )
    floor_slope: float = Field(
        0.1,
        ge=0,
        le=1,
        description="how much a prediction below the floor counts as error",
    )
    split: Split = Field(
        "auto",
        description="which pairs are the test; auto uses a column fold if it can",
    )
    test_fraction: float = Field(
        0.2, ge=0.01, le=0.9, description="size of the test unless it is given"
    )
    validation_fraction: float = Field(
        0.05,
        ge=0,
        le=0.5,
        description="share that each member sets aside to be judged on",
    )

    @model_validator(mode="after")
    def _patience_needs_validation(self) -> AffinityParams:
        if self.patience is not None and self.validation_fraction == 0:
            raise ValueError("patience needs a validation_fraction above 0")
        return self


PRESETS: dict[str, dict[str, Any]] = {
    "smoke_test": {
        "epochs": 5,
        "members": 2,
        "hidden": 64,
        "width": 32,
        "head": 32,
        "protein_similarity": "kmers",
    },
    "prototyping": {"epochs": 30, "members": 6},
    "validation": {
        "epochs": 30,
        "members": 6,
        "hidden": 256,
        "width": 128,
        "head": 128,
    },
    "production": {
        "epochs": 40,
        "members": 10,
        "hidden": 256,
        "width": 128,
        "head": 128,
    },
}

TEXT = {"type": "string", "minLength": 1}
SMILES = {**TEXT, "maxLength": MAX_SMILES, "description": "the ligand as SMILES"}
SEQUENCE = {**TEXT, "maxLength": MAX_SEQUENCE, "description": "the protein's residues"}
INPUTS = {
    "type": "object",
    "properties": {
        "smiles": SMILES,
        "sequence": SEQUENCE,
        "ligand": {**SMILES, "description": "another name of smiles"},
        "protein": {**SEQUENCE, "description": "another name of sequence"},
    },
    "allOf": [
        {"anyOf": [{"required": ["smiles"]}, {"required": ["ligand"]}]},
        {"anyOf": [{"required": ["sequence"]}, {"required": ["protein"]}]},
    ],
}
SHARE = {"type": "number", "minimum": 0, "maximum": 1}
OUTPUTS = {
    "type": "object",
    "properties": {
        "affinity": {
            "type": "number",
            "description": "in the unit of the training data",
        },
        "uncertainty": {
            "type": "number",
            "minimum": 0,
            "description": "standard deviation over the ensemble",
        },
        "protein_seen": {"type": "boolean", "description": "was in the training data"},
        "ligand_seen": {"type": "boolean", "description": "was in the training data"},
        "protein_similarity": {
            **SHARE,
            "description": "to the nearest one in training",
        },
        "ligand_similarity": {**SHARE, "description": "to the nearest one in training"},
        "warnings": {"type": "array", "items": {"type": "string"}},
    },
    "required": [
        "affinity",
        "uncertainty",
        "protein_seen",
        "ligand_seen",
        "protein_similarity",
        "ligand_similarity",
    ],
}

RECIPE = Recipe(
    name=NAME,
    summary="Binding affinity of a ligand (SMILES) and a protein (sequence)",
    params=AffinityParams,
    presets=PRESETS,
    inputs=INPUTS,
    outputs=OUTPUTS,
    check="training.recipes.affinity.columns:check",
    fit="training.recipes.affinity.fit:fit",
    predictor="training.recipes.affinity.predictor:Predictor",
    resources=Resources(1, 0, 2 * GIB),
)
