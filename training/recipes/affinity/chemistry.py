"""Ligands: reading SMILES, and how similar two molecules are."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from typing import Any, cast

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


def _parser(*, sanitize: bool) -> Chem.SmilesParserParams:
    """SMILES alone: no name behind it, and no extensions of ChemAxon's."""
    params: Any = Chem.SmilesParserParams()
    params.parseName = params.allowCXSMILES = False
    params.sanitize = sanitize
    return cast(Chem.SmilesParserParams, params)


CHEMISTRY, GRAMMAR = _parser(sanitize=True), _parser(sanitize=False)
ATOM = re.compile(r"\[[^\]]*\]|Br|Cl|[A-Za-z*]")
TOKEN = re.compile(rf"{ATOM.pattern}|%\d\d|[\d().]")
LISTENER = _Listener()
rdBase.LogToPythonLogger()
logging.getLogger("rdkit").handlers = [LISTENER]
logging.getLogger("rdkit").propagate = False


def read_smiles(smiles: str) -> Chem.Mol:
    """The molecule of a SMILES, white space around it left out.

    Raises ValueError with RDKit's reason and the position (from 1), for white space or other
    text inside, and for no atoms at all.
    """
    smiles = smiles.strip()
    _check_letters(smiles)
    molecule = cast("Chem.Mol | None", Chem.MolFromSmiles(smiles, CHEMISTRY))
    said = LISTENER.take()
    if molecule is None:
        raise ValueError(_reason(smiles, said))
    if molecule.GetNumAtoms() == 0:
        raise ValueError("the SMILES has no atoms")
    return molecule


def _check_letters(smiles: str) -> None:
    for position, letter in enumerate(smiles, start=1):
        if letter.isspace():
            raise ValueError(f"not a SMILES: white space at position {position}")
        if not "!" <= letter <= "~":
            code = f"U+{ord(letter):04X}"
            raise ValueError(
                f"not a SMILES: the character {code} at position {position}"
            )


def _reason(smiles: str, said: str) -> str:
    """Why RDKit made no molecule: the grammar, or the chemistry."""
    raw = cast("Chem.Mol | None", Chem.MolFromSmiles(smiles, GRAMMAR))
    LISTENER.take()
    if raw is not None:
        problems = Chem.DetectChemistryProblems(raw)
        LISTENER.take()
        text = " ".join((problems[0].Message() if problems else said).split())[:300]
        position = _atom_position(smiles, raw, problems)
        return f"{text} (position {position})" if position else text
    found = re.search(r"Parse Error: (.+?)(?: while parsing| for input|$)", said, re.M)
    place = re.search(r"around position (\d+)", said)
    position = int(place[1]) if place else misplaced(smiles)
    where = f" at position {position}" if position else ""
    return f"not a SMILES: {found[1] if found else 'it cannot be read'}{where}"


def _atom_position(smiles: str, raw: Chem.Mol, problems: Sequence[Any]) -> int | None:
    """The position (from 1) of the first atom that the first of the problems names, if any."""
    atoms = list(ATOM.finditer(smiles))
    if not problems or len(atoms) != raw.GetNumAtoms():
        return None
    first = problems[0]
    if hasattr(first, "GetAtomIdx"):
        place: int = first.GetAtomIdx()
    elif hasattr(first, "GetAtomIndices"):
        place = min(first.GetAtomIndices())
    else:
        return None
    return atoms[place].start() + 1


def misplaced(smiles: str) -> int | None:
    """The position (from 1) of the first parenthesis or ring bond that has no partner, or of a
    ring bond between atoms that are bound already, if any."""
    rings, bonds = dict[str, tuple[int, int]](), set[frozenset[int]]()
    branches: list[tuple[int, int]] = []
    atom = atoms = -1
    for token in TOKEN.finditer(smiles):
        text, position = token[0], token.start() + 1
        if text == "(":
            branches.append((atom, position))
        elif text == ")":
            if not branches:
                return position
            atom, _ = branches.pop()
        elif text == ".":
            atom = -1
        elif text.lstrip("%").isdigit():
            other, _ = rings.pop(text, (None, 0))
            if other is None:
                rings[text] = atom, position
            elif frozenset((other, atom)) in bonds or other == atom:
                return position
            else:
                bonds.add(frozenset((other, atom)))
        else:
            atoms += 1
            bonds.add(frozenset((atom, atoms)))
            atom = atoms
    return min((one for _, one in [*rings.values(), *branches]), default=None)


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
