"""Every protein of a FASTA file with every ligand of a SMILES file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inference.sources import Record, Records, Tick, together
from inference.sources.lines import Fasta, Smiles

LIGANDS = 256  # between two marks


class Product:
    """Row by row: the first protein with all ligands, then the next."""

    columns = ("protein_id", "ligand_id", "smiles")
    delimiter = ","

    def __init__(self, proteins: Fasta, ligands: Smiles) -> None:
        self.proteins, self.ligands = proteins, ligands

    def prepare(self, every: int, tick: Tick) -> int:
        proteins = self.proteins.prepare(1, tick)
        return proteins * self.ligands.prepare(LIGANDS, tick)

    def read(self, first: int, count: int) -> Iterator[Records]:
        return together(self._each(first, count))

    def _each(self, first: int, count: int) -> Iterator[Record]:
        wide = self.ligands.marks.count
        protein, ligand = divmod(first, wide)
        while count > 0:
            some = min(count, wide - ligand)
            ((name, _), item) = next(self.proteins.each(protein, 1))
            for raw, one in self.ligands.each(ligand, some):
                yield (name, *raw), {**item, **one}
            count, protein, ligand = count - some, protein + 1, 0

    def head(self, count: int) -> Iterator[Record]:
        for (name, _), item in self.proteins.head(1):
            for raw, one in self.ligands.head(count):
                yield (name, *raw), {**item, **one}

    def shown(self, raw: Any, item: Any) -> Any:
        return dict(zip(self.columns, raw, strict=True))

    def cells(self, raw: Any, item: Any) -> list[Any]:
        return list(raw)
