"""A trained affinity model that answers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from registry.errors import BadItem
from training.bundle import Bundle, load_bundle
from training.recipes.affinity.chemistry import Ligands, canonical, read_smiles
from training.recipes.affinity.inputs import Inputs
from training.recipes.affinity.kernel import root
from training.recipes.affinity.proteins import Alignments, Kmers, read_sequence
from training.recipes.affinity.recipe import MAX_SEQUENCE, MAX_SMILES
from training.recipes.affinity.scale import Blend, Scale, combine
from training.recipes.affinity.towers import Ensemble, Shape, load_ensemble

CACHE_BYTES = 64 * 2**20  # for each of both sides
CHUNK = 4096  # pairs of one forward pass
NAMES = {"smiles": ("smiles", "ligand"), "sequence": ("sequence", "protein")}
LIMITS = {"smiles": MAX_SMILES, "sequence": MAX_SEQUENCE}


@dataclass(eq=False)
class Entity:
    """A ligand or protein as the model sees it; `seen` is filled when it is first paired.

    `row` holds its similarities to the references, `kernel` what the kernel model takes of it.
    """

    name: str
    is_known: bool
    row: Tensor
    kernel: Tensor
    warning: str | None = None
    seen: Tensor | None = None


class Cache:
    """The entities used last, up to a number; safe between threads."""

    def __init__(self, most: int) -> None:
        self.most = max(most, 1)
        self.lock = threading.Lock()
        self.entities: OrderedDict[str, Entity] = OrderedDict()

    def get(self, key: str, make: Callable[[str], Entity]) -> Entity:
        """The entity of that key, made if it is not here."""
        with self.lock:
            if found := self.entities.get(key):
                self.entities.move_to_end(key)
                return found
        entity = make(key)
        with self.lock:
            self.entities[key] = entity
            if len(self.entities) > self.most:
                self.entities.popitem(last=False)
        return entity


class Predictor:
    """Encodes items `{smiles, sequence}` (or `{ligand, protein}`), and predicts many at once."""

    def __init__(self, bundle: Bundle, device: str) -> None:
        config, tensors = bundle.config, bundle.tensors
        self.device = device
        self.known_ligands = frozenset(config["ligands"])
        self.known_proteins = {name: n for n, name in enumerate(config["proteins"])}
        self.protein_rows = tensors.get("protein.rows")
        self.scale, self.blend = Scale(**config["scale"]), Blend(**config["blend"])
        shape = Shape(**config["shape"])
        weights = {
            name.removeprefix("network."): tensor
            for name, tensor in tensors.items()
            if name.startswith("network.")
        }
        self.ensemble: Ensemble = load_ensemble(shape, weights, device)
        self.coefficients = tensors["kernel.coefficients"]
        self.kernel_mean = float(config["kernel_mean"])
        self.ligand_inputs, self.protein_inputs = (
            Inputs(
                tensors[f"{name}.columns"],
                tensors[f"{name}.centre"],
                config["deviations"][name],
            )
            for name in ("ligand", "protein")
        )
        names = [config["ligands"][n] for n in tensors["ligand.references"].tolist()]
        self.ligands = Ligands([read_smiles(one) for one in names])
        names = [config["proteins"][n] for n in tensors["protein.references"].tolist()]
        is_aligned = config["protein_similarity"] == "alignment"
        self.proteins = Alignments(names) if is_aligned else Kmers(names)
        references = sum(self.coefficients.shape)
        size = 4 * (2 * references + shape.members * (shape.width + shape.hidden)) + 512
        self.ligand_cache, self.protein_cache = (
            Cache(CACHE_BYTES // size),
            Cache(CACHE_BYTES // size),
        )
        self.smiles_cache = Cache(CACHE_BYTES // size)
        kept = sum(one.nbytes for one in tensors.values())
        self.nbytes = int(
            kept + self.ligands.nbytes + self.proteins.nbytes + 2 * CACHE_BYTES
        )

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> Predictor:
        """The model in `directory`. Raises Problem `model_unavailable`."""
        return cls(load_bundle(directory), device)

    def encode(self, item: Any) -> tuple[Entity, Entity]:
        """Ligand and protein of an item. Raises BadItem that names what is wrong, and where."""
        smiles, sequence = (_text(item, name) for name in NAMES)
        try:
            ligand = self.smiles_cache.get(smiles, self._read_ligand)
        except ValueError as error:
            raise BadItem(f"smiles: {error}") from None
        try:
            sequence = read_sequence(sequence)
        except ValueError as error:
            raise BadItem(f"sequence: {error}") from None
        return ligand, self.protein_cache.get(sequence, self._see_protein)

    @torch.inference_mode()
    def predict(self, encoded: list[tuple[Entity, Entity]]) -> list[dict[str, Any]]:
        """One answer for each encoded item; what stands beside an item changes nothing."""
        answers: list[dict[str, Any]] = []
        for start in range(0, len(encoded), CHUNK):
            answers += self._predict(encoded[start : start + CHUNK])
        return answers

    def _predict(self, encoded: list[tuple[Entity, Entity]]) -> list[dict[str, Any]]:
        ligands, i = _distinct(one for one, _ in encoded)
        proteins, j = _distinct(other for _, other in encoded)
        ensemble = self.ensemble
        left = self._see(ligands, self.ligand_inputs, ensemble.see_ligands)
        right = self._see(proteins, self.protein_inputs, ensemble.see_proteins)
        members = ensemble.pair(left[:, i], right[:, j]).cpu()
        rows = torch.stack([one.kernel for one in ligands])
        columns = torch.stack([one.kernel for one in proteins])
        kernel = (rows[i] * columns[j]).sum(1).double().numpy() + self.kernel_mean
        is_known = np.array([a.is_known and b.is_known for a, b in encoded])
        values, spread = combine(
            self.scale.affinity(members), kernel, self.blend.weigh(is_known), self.scale
        )
        return [
            _answer(*pair, value, deviation)
            for pair, value, deviation in zip(
                encoded, values.tolist(), spread.tolist(), strict=True
            )
        ]

    def _see(
        self, entities: list[Entity], inputs: Inputs, see: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Tower outputs [members, entities, size]; those not yet there are computed together."""
        fresh = [one for one in entities if one.seen is None]
        if fresh:
            rows = inputs.of(torch.stack([one.row for one in fresh]))
            for one, seen in zip(
                fresh, see(rows.to(self.device)).unbind(1), strict=True
            ):
                one.seen = seen.clone()
        return torch.stack([one.seen for one in entities if one.seen is not None], 1)

    def _read_ligand(self, smiles: str) -> Entity:
        molecule = read_smiles(smiles)

        def make(name: str) -> Entity:
            row = torch.from_numpy(self.ligands.compare(molecule))
            warning = "the ligand has several parts" if "." in name else None
            return Entity(name, name in self.known_ligands, row, row, warning)

        return self.ligand_cache.get(canonical(molecule), make)

    def _see_protein(self, sequence: str) -> Entity:
        place = self.known_proteins.get(sequence)
        if place is not None and self.protein_rows is not None:
            row = self.protein_rows[place]
        else:
            row = torch.from_numpy(self.proteins.compare(sequence))
        kernel = self.coefficients @ root(row)
        return Entity(sequence, place is not None, row, kernel)


def _text(item: Any, name: str) -> str:
    if not isinstance(item, dict):
        raise BadItem("an item is an object with smiles and sequence")
    given = [one for one in NAMES[name] if item.get(one) is not None]
    if len(given) != 1:
        both = " or ".join(NAMES[name])
        how = "is missing" if not given else "is there twice"
        raise BadItem(f"{name}: {both} {how}")
    text = item[given[0]]
    if not isinstance(text, str):
        raise BadItem(f"{given[0]}: a text is needed, not {type(text).__name__}")
    if len(text) > LIMITS[name]:
        raise BadItem(
            f"{given[0]}: {len(text):,} characters; at most {LIMITS[name]:,} are read"
        )
    return text.strip()


def _distinct(
    entities: Iterable[Entity],
) -> tuple[list[Entity], NDArray[np.int64]]:
    """Each entity once, and which of them stands at each place."""
    place: dict[int, int] = {}
    once: list[Entity] = []
    index = []
    for one in entities:
        if id(one) not in place:
            place[id(one)] = len(once)
            once.append(one)
        index.append(place[id(one)])
    return once, np.array(index, np.int64)


def _answer(
    ligand: Entity, protein: Entity, value: float, deviation: float
) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "affinity": value,
        "uncertainty": deviation,
        "protein_seen": protein.is_known,
        "ligand_seen": ligand.is_known,
        "protein_similarity": float(protein.row.max()),
        "ligand_similarity": float(ligand.row.max()),
    }
    if ligand.warning:
        answer["warnings"] = [ligand.warning]
    return answer
