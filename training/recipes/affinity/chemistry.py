"""Ligands: reading SMILES, and how similar two molecules are."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdFingerprintGenerator

BITS, RADIUS = 2048, 2
MORGAN = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)


class _Listener(logging.Handler):
    """Keeps what RDKit says, apart for each thread, instead of printing it."""

    def __init__(self) -> None:
        super().__init__()
        self.own = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        self.own.__dict__.setdefault("said", []).append(record.getMessage())

    def take(self) -> str:
        said: list[str] = self.own.__dict__.pop("said", [])
        return " ".join(" ".join(said).split())


LISTENER = _Listener()
rdBase.LogToPythonLogger()
logging.getLogger("rdkit").addHandler(LISTENER)
logging.getLogger("rdkit").propagate = False


def read_smiles(smiles: str) -> Chem.Mol:
    """The molecule. Raises ValueError with RDKit's reason; the empty SMILES is refused too."""
    LISTENER.take()
    molecule = Chem.MolFromSmiles(smiles, sanitize=False)
    if molecule is None:
        raise ValueError(_syntax(LISTENER.take(), smiles))
    if molecule.GetNumAtoms() == 0:
        raise ValueError("the SMILES has no atoms")
    problems = Chem.DetectChemistryProblems(molecule)
    if problems:
        raise ValueError(problems[0].Message())
    try:
        Chem.SanitizeMol(molecule)
        Chem.AssignStereochemistry(molecule, cleanIt=True)
    except ValueError as error:
        raise ValueError(str(error).strip().splitlines()[0]) from None
    finally:
        LISTENER.take()
    return molecule


def canonical(molecule: Chem.Mol) -> str:
    """RDKit's canonical SMILES, the name of a ligand everywhere here."""
    return str(Chem.MolToSmiles(molecule))


def _syntax(said: str, smiles: str) -> str:
    said = said.partition("SMILES Parse Error: ")[2] or said
    said = said.partition("[")[0] if said.startswith("[") else said
    return f"not a SMILES: {said[:300] or repr(smiles[:60])}"


def counts(molecule: Chem.Mol) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Morgan count fingerprint: the places that are not zero, and what they hold (up to 255).

    Rogers and Hahn, J. Chem. Inf. Model. 50 (2010) 742; radius 2, 2,048 places.
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
        return (common / np.maximum(union, 1)).astype(np.float32)

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self.totals.nbytes
