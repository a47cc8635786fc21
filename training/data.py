"""The data sets that come with Compass, by name; needs neither torch nor NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path(__file__).parent / "datasets"


@dataclass(frozen=True)
class Dataset:
    """A built-in data set: one CSV file, perhaps packed with gzip.

    `columns` are those of its header; `recipe` names the recipe it was made for.
    """

    name: str
    file: str
    recipe: str
    summary: str
    licence: str
    source: str
    columns: tuple[str, ...]

    @property
    def path(self) -> Path:
        return DIRECTORY / self.file


BUILT_IN = {
    one.name: one
    for one in (
        Dataset(
            "bindingdb_sample",
            "bindingdb_sample.csv.gz",
            "affinity",
            "5,000 measured pKd of 443 ligands and 388 proteins",
            "MIT",
            "pydta 0.0.3 on PyPI, data/dta_sample_data.json",
            ("ligand_id", "protein_id", "smiles", "sequence", "affinity", "fold"),
        ),
    )
}
