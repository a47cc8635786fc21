"""Ligands: reading SMILES, and how similar two molecules are."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdFingerprintGenerator

BITS, RADIUS = 2048, 2
MORGAN = rdFingerprintGenerator.GetMorganGenerator(
    radius=RADIUS, fpSize=BITS, includeChirality=True
)


class _Listener(logging.Handler):
    """Keeps what RDKit says, apart for each thread, instead of printing it."""

    def __init__(self) -> None:
        super().__init__()
        self.own = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        self.own.__dict__.setdefault("said", []).append(record.getMessage())

    def take(self) -> str:
        said: list[str] = self.own.__dict__.pop("said", [])
        return "\n".join(said)


LISTENER = _Listener()
rdBase.LogToPythonLogger()
logging.getLogger("rdkit").handlers = [LISTENER]
logging.getLogger("rdkit").propagate = False


def read_smiles(smiles: str) -> Chem.Mol:
    """The molecule. Raises ValueError with RDKit's reason; the empty SMILES is refused too."""
    molecule = cast("Chem.Mol | None", Chem.MolFromSmiles(smiles))
    said = LISTENER.take()
    if molecule is None:
        raise ValueError(_reason(smiles, said))
    if molecule.GetNumAtoms() == 0:
        raise ValueError("the SMILES has no atoms")
    return molecule


def _reason(smiles: str, said: str) -> str:
    """Why RDKit made no molecule: the grammar, or the chemistry."""
    raw = cast("Chem.Mol | None", Chem.MolFromSmiles(smiles, sanitize=False))
    LISTENER.take()
    if raw is not None:
        problems = Chem.DetectChemistryProblems(raw)
        LISTENER.take()
        return " ".join((problems[0].Message() if problems else said).split())[:300]
    found = re.search(r"Parse Error: (.+?)(?: while parsing| for input|$)", said, re.M)
    place = re.search(r"around position (\d+)", said)
    position = int(place[1]) if place else unmatched(smiles)
    where = f" at position {position}" if position else ""
    return f"not a SMILES: {found[1] if found else 'it cannot be read'}{where}"


def unmatched(smiles: str) -> int | None:
    """The position (from 1) of the first ring bond or parenthesis without a partner, if any."""
    rings, branches = dict[str, int](), list[int]()
    for token in re.finditer(r"\[[^\]]*\]|%\d\d|[\d()]", smiles):
        text, position = token[0], token.start() + 1
        if text == "(":
            branches.append(position)
        elif text == ")":
            if not branches:
                return position
            branches.pop()
        elif not text.startswith("[") and rings.pop(text, None) is None:
            rings[text] = position
    return min([*rings.values(), *branches], default=None)


def canonical(molecule: Chem.Mol) -> str:
    """RDKit's canonical SMILES, the name of a ligand everywhere here."""
    return str(Chem.MolToSmiles(molecule))


def counts(molecule: Chem.Mol) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Morgan count fingerprint: the places that are not zero, and what they hold (up to 255).

    Rogers and Hahn, J. Chem. Inf. Model. 50 (2010) 742; radius 2, 2,048 places, with chirality:
    else stereoisomers, which often bind unlike each other, would be one.
    """
    found = MORGAN.GetCountFingerprint(molecule).GetNonzeroElements()
    places = np.fromiter(found.keys(), np.int64, len(found))
    values = np.fromiter(found.values(), np.int64, len(found))
    return places, np.minimum(values, 255).astype(np.uint8)


class Ligands:
    """Reference ligands that others are compared with."""

    def __init__(self, molecules: Sequence[Chem.Mol]) -> None:
        self.table = np.zeros((BITS, len(molecules)), np.uint8)
        for column, molecule in enumerate(molecules):
            places, values = counts(molecule)
            self.table[places, column] = values
        self.totals = self.table.sum(0, dtype=np.float32)

    def compare(self, molecule: Chem.Mol) -> NDArray[np.float32]:
        """Count Tanimoto (sum of smaller over sum of larger counts) with each, 0 to 1."""
        places, values = counts(molecule)
        common = np.minimum(self.table[places], values[:, None]).sum(
            0, dtype=np.float32
        )
        union = np.float32(values.sum()) + self.totals - common
        shares: NDArray[np.float32] = (common / np.maximum(union, 1)).astype(np.float32)
        return shares

    @property
    def nbytes(self) -> int:
        return int(self.table.nbytes + self.totals.nbytes)
