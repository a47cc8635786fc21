"""Which columns of a CSV the affinity recipe reads."""

from __future__ import annotations

from collections.abc import Sequence

from registry.errors import BadData
from training.recipes.affinity.recipe import AffinityParams

REQUIRED = ("smiles", "sequence", "affinity")
OPTIONAL = ("fold",)


def check(columns: Sequence[str], params: AffinityParams) -> None:
    """Raise BadData if a CSV with these columns cannot be trained on."""
    found = find_columns(columns)
    if params.split == "given" and "fold" not in found:
        raise BadData("the split 'given' needs this column", column="fold")


def find_columns(header: Sequence[str]) -> dict[str, int]:
    """Where each column of the format stands; case and surrounding space do not matter.

    Raises BadData for a missing column, and for one that is there twice.
    """
    names = [name.strip().lower() for name in header]
    if not any(names):
        raise BadData("the file is empty; a header with column names must come first")
    for name in (*REQUIRED, *OPTIONAL):
        if names.count(name) > 1:
            raise BadData("this column is there more than once", column=name)
    for name in REQUIRED:
        if name not in names:
            shown = ", ".join(one[:40] for one in names[:20])
            raise BadData(f"this column is missing; there are: {shown}", column=name)
    return {name: names.index(name) for name in (*REQUIRED, *OPTIONAL) if name in names}
