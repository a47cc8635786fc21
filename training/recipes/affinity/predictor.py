"""A trained affinity model that answers, by torch or without it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from registry.errors import BadItem
from training.bundle_head import read_head, read_tensors
from training.recipes.affinity import plain
from training.recipes.affinity.chemistry import Ligands, canonical, read_smiles
from training.recipes.affinity.inputs import Inputs
from training.recipes.affinity.proteins import Alignments, Kmers, read_sequence
from training.recipes.affinity.recipe import MAX_SEQUENCE, MAX_SMILES
from training.recipes.affinity.scale import Blend, Scale, combine

if TYPE_CHECKING:
    from training.bundle import Bundle
    from training.recipes.affinity import eager

CACHE_BYTES = 64 * 2**20  # for each of both sides
CHUNK = 256  # pairs of one forward pass, which stay in a core's cache
NAMES = {"smiles": ("smiles", "ligand"), "sequence": ("sequence", "protein")}
LIMITS = {"smiles": MAX_SMILES, "sequence": MAX_SEQUENCE}
Values = NDArray[np.float32]
T = TypeVar("T")


@dataclass(eq=False)
class Entity:
    """A ligand or protein as the model sees it; `seen` is filled when it is first paired.

    `row` holds its similarities to the references, `kernel` what the kernel model takes of it.
    """

    name: str
    is_known: bool
    row: Values
    kernel: Values
    warning: str | None = None
    seen: Values | None = None


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


class Answering:
    """Encodes items `{smiles, sequence}` (or `{ligand, protein}`), and predicts many at once."""

    uses_torch = False

    def __init__(
        self,
        config: Mapping[str, Any],
        tensors: Mapping[str, NDArray[Any]],
        networks: plain.Networks | eager.Networks,
    ) -> None:
        self.networks = networks
        self.known_ligands = frozenset(config["ligands"])
        self.known_proteins = {name: n for n, name in enumerate(config["proteins"])}
        self.protein_rows = tensors.get("protein.rows")
        self.scale, self.blend = Scale(**config["scale"]), Blend(**config["blend"])
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
        shape = config["shape"]
        seen = shape["members"] * (shape["width"] + shape["hidden"])
        size = 4 * (2 * references + seen) + 512
        self.ligand_cache, self.protein_cache = (
            Cache(CACHE_BYTES // size),
            Cache(CACHE_BYTES // size),
        )
        self.smiles_cache = Cache(CACHE_BYTES // size)
        kept = sum(one.nbytes for one in tensors.values())
        self.nbytes = int(
            kept + self.ligands.nbytes + self.proteins.nbytes + 2 * CACHE_BYTES
        )

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

    def predict(self, encoded: list[tuple[Entity, Entity]]) -> list[dict[str, Any]]:
        """One answer for each encoded item; what stands beside an item changes nothing."""
        answers: list[dict[str, Any]] = []
        for start in range(0, len(encoded), CHUNK):
            answers += self._predict(encoded[start : start + CHUNK])
        return answers

    def _predict(self, encoded: list[tuple[Entity, Entity]]) -> list[dict[str, Any]]:
        ligands, i = _distinct(one for one, _ in encoded)
        proteins, j = _distinct(other for _, other in encoded)
        networks = self.networks
        left = self._see(ligands, self.ligand_inputs, networks.see_ligands)
        right = self._see(proteins, self.protein_inputs, networks.see_proteins)
        members = networks.pair(left[:, i], right[:, j])
        rows = np.stack([one.kernel for one in ligands])
        columns = np.stack([one.kernel for one in proteins])
        kernel = (rows[i] * columns[j]).sum(1).astype(np.float64) + self.kernel_mean
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
        self, entities: list[Entity], inputs: Inputs, see: Callable[[Values], Values]
    ) -> Values:
        """Tower outputs [members, entities, size]; those not yet there are computed together."""
        fresh = [one for one in entities if one.seen is None]
        if fresh:
            seen = see(inputs.of(np.stack([one.row for one in fresh])))
            for n, one in enumerate(fresh):
                one.seen = seen[:, n].copy()
        return np.stack([one.seen for one in entities if one.seen is not None], 1)

    def _read_ligand(self, smiles: str) -> Entity:
        molecule = read_smiles(smiles)

        def make(name: str) -> Entity:
            row = self.ligands.compare(molecule)
            warning = "the ligand has several parts" if "." in name else None
            return Entity(name, name in self.known_ligands, row, row, warning)

        return self.ligand_cache.get(canonical(molecule), make)

    def _see_protein(self, sequence: str) -> Entity:
        place = self.known_proteins.get(sequence)
        if place is not None and self.protein_rows is not None:
            row = self.protein_rows[place]
        else:
            row = self.proteins.compare(sequence)
        kernel = self.coefficients @ np.sqrt(np.maximum(row, 0))
        return Entity(sequence, place is not None, row, kernel)


class Predictor(Answering):
    """The same with its networks on torch."""

    uses_torch = True

    def __init__(self, bundle: Bundle, device: str) -> None:
        from training.recipes.affinity import eager
        from training.recipes.affinity.towers import Shape, load_ensemble

        shape = Shape(**bundle.config["shape"])
        ensemble = load_ensemble(shape, _of_networks(bundle.tensors), device)
        tensors = {name: one.numpy() for name, one in bundle.tensors.items()}
        super().__init__(bundle.config, tensors, eager.Networks(ensemble, device))

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> Predictor:
        """The model in `directory`. Raises Problem `model_unavailable`."""
        from training.bundle import load_bundle

        return cls(load_bundle(directory), device)

    @classmethod
    def without_torch(cls, directory: Path) -> Answering:
        """The model on the CPU; it needs no engine beside it."""
        config, tensors = read_head(directory)["config"], read_tensors(directory)
        networks = plain.Networks(_of_networks(tensors), config["shape"]["width"])
        return Answering(config, tensors, networks)


def _of_networks(tensors: Mapping[str, T]) -> dict[str, T]:
    return {
        name.removeprefix("network."): tensor
        for name, tensor in tensors.items()
        if name.startswith("network.")
    }


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
