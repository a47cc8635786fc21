"""A trained tabular model that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from registry.errors import BadItem, Problem
from training.bundle_head import read_head
from training.recipes.tabular.columns import (
    RARE,
    Column,
    item_number,
    item_text,
    standardise,
)

if TYPE_CHECKING:
    from torch import Tensor

    from training.bundle import Bundle

CHUNK = 256  # items per forward pass
DIGITS = 7  # significant ones; float64 has more than its rounding errors reach


@dataclass(frozen=True)
class Encoded:
    """One item: numbers float32 in standard deviations, codes int64, and the columns whose
    category the model has no code for."""

    numbers: NDArray[np.float32]
    codes: NDArray[np.int64]
    other: tuple[str, ...]


class Reader:
    """Encodes items, one by one, and reads the network's outputs, without torch."""

    nbytes, uses_torch = 0, False

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.columns = [Column.from_dict(one) for one in config["columns"]]
        self.ignored = frozenset(config["ignored"])
        numbers = [one for one in self.columns if one.is_number]
        self.center = np.array([one.center for one in numbers])
        self.scale = np.array([one.scale for one in numbers])
        self.names = {one.name for one in self.columns}
        self.labels: list[str | int | float] = config["labels"]
        self.codes = [
            {text: code for code, text in enumerate(one.categories, start=1)}
            for one in self.columns
        ]

    def encode(self, item: Any) -> Encoded:
        """One item as the network reads it. Raises BadItem that names the field."""
        if not isinstance(item, dict):
            raise BadItem(f"an item is an object, not a {type(item).__name__}")
        for name in item:
            if name not in self.names and name not in self.ignored:
                raise BadItem(f"{str(name)[:100]}: the model has no such column")
        numbers, codes, other = [], [], []
        for column, places in zip(self.columns, self.codes, strict=True):
            value = item.get(column.name)
            if column.is_number:
                numbers.append(item_number(column, value))
                continue
            text = item_text(column, value)
            code = column.gap_code if text is None else places.get(text, RARE)
            if text is not None and code == RARE:
                other.append(column.name)
            codes.append(code)
        return Encoded(
            standardise(np.array(numbers, np.float64), self.center, self.scale),
            np.array(codes, np.int64),
            tuple(other),
        )

    def tensors(self, items: Sequence[Encoded]) -> tuple[Any, ...]:
        """What the network takes, the items along the first axis."""
        numbers = np.stack([one.numbers for one in items]).astype(np.float64)
        return numbers, np.stack([one.codes for one in items])

    def answers(
        self, items: Sequence[Encoded], outputs: tuple[Any, ...]
    ) -> list[dict[str, Any]]:
        """What the network's outputs say of the items."""
        return [
            self._answer([_rounded(v) for v in values], one.other)
            for one, values in zip(items, outputs[0].tolist(), strict=True)
        ]

    def _answer(self, values: list[float], other: tuple[str, ...]) -> dict[str, Any]:
        extra = {"other": list(other)} if other else {}
        if not self.labels:
            return {"value": values[0], "uncertainty": values[1], **extra}
        place = max(range(len(values)), key=values.__getitem__)
        return {
            "class": self.labels[place],
            "probability": values[place],
            "probabilities": {
                str(label): value
                for label, value in zip(self.labels, values, strict=True)
            },
            **extra,
        }


class Predictor(Reader):
    """A reader with its network, which answers for many at once.

    It computes in float64 and rounds, so that an answer does not depend on its neighbours.
    """

    uses_torch = True

    def __init__(self, bundle: Bundle, device: str) -> None:
        from training.recipes.tabular.network import Network, Shape

        super().__init__(bundle.config)
        self.device = device
        self.network = Network(Shape.from_dict(bundle.config["shape"]))
        self.network.load_state_dict(bundle.tensors)
        self.network.double().eval().to(device)

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> Predictor:
        """The predictor of a model directory. Raises Problem `model_unavailable`."""
        from training.bundle import load_bundle

        bundle = load_bundle(directory)
        try:
            return cls(bundle, device)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise Problem(
                "model_unavailable", f"The model's files do not fit together: {error}"
            ) from error

    @classmethod
    def without_torch(cls, directory: Path) -> Reader:
        """What an engine needs beside its own file."""
        return Reader(read_head(directory)["config"])

    @property
    def nbytes(self) -> int:  # type: ignore[override]
        """Bytes of all weights in memory."""
        return sum(one.nbytes for one in self.network.state_dict().values())

    def predict(self, items: Sequence[Encoded]) -> list[dict[str, Any]]:
        """One answer for each item, in order."""
        import torch

        answers: list[dict[str, Any]] = []
        with torch.inference_mode():
            for start in range(0, len(items), CHUNK):
                some = items[start : start + CHUNK]
                answers += self.answers(some, (self.network(*self.tensors(some)),))
        return answers

    def tensors(self, items: Sequence[Encoded]) -> tuple[Tensor, ...]:
        import torch

        numbers, codes = map(torch.from_numpy, super().tensors(items))
        return numbers.to(self.device), codes.to(self.device)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
