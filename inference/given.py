"""The uploads that a batch names: rows of a table, lines of JSON, molecules, sequences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.conf import settings

from registry import contents, sniff, uploads
from registry.archives import Growth
from registry.dialect import read_number
from registry.errors import BadData, Problem
from registry.models import Upload

if TYPE_CHECKING:
    from inference.sources import Source

MOST_ROWS = 100_000_000
LAYOUTS = ("csv", "jsonl", "parquet", "smi", "fasta")
READ = ".csv, .csv.gz, .jsonl, .parquet, .smi and .fasta"
UPLOADS = {"dataset": None, "ligands": "smi", "proteins": "fasta"}  # and their layout
SIDES = {"ligand": ("smiles", "ligand"), "protein": ("sequence", "protein")}
HEAD = 100  # items that are looked at to find a model


@dataclass
class Given:
    """A batch from uploads: the fields of its request, and what was found of them."""

    dataset: Upload
    layout: str
    proteins: Upload | None = None
    values: dict[str, str] = field(
        default_factory=dict
    )  # protein or ligand of every item

    @property
    def is_product(self) -> bool:
        return self.proteins is not None

    @property
    def format(self) -> str:
        """That of the results where none is asked for."""
        return self.layout if self.layout in ("jsonl", "parquet") else "csv"

    @property
    def uploads(self) -> dict[str, str]:
        """What must not be deleted meanwhile: the uploads' parts in it by id."""
        found = {str(self.dataset.pk): "dataset"}
        if self.proteins is not None:
            found[str(self.proteins.pk)] = "proteins"
        return found

    def count(self) -> int:
        """The number of items. Raises BadData, and Problem `too_many_items`."""
        found = self._rows()
        if self.proteins is not None:
            found *= rows_of(self.proteins, "fasta")
        if found > MOST_ROWS:
            text = f"there are {found:,} items; at most {MOST_ROWS:,} are taken"
            raise Problem("too_many_items", f"{text}.", errors={"dataset": [text]})
        return found

    def source(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """What a task says of its source, for a model whose items are of that schema.

        Raises Problem `invalid` if they have no place for a ligand or protein that is given.
        """
        names = sides(schema)
        about: dict[str, Any] = {"sha256": self.dataset.sha256, "layout": self.layout}
        needed = set(self.values)
        if self.layout == "smi":
            needed.add("ligand")
        elif self.layout == "fasta":
            needed.add("protein")
        if self.proteins is not None:
            needed.add("protein")
            about |= {"layout": "product", "proteins": self.proteins.sha256}
        for side in sorted(needed):
            if names[side] is None:
                text = f"the model's items have no {side}"
                raise Problem("invalid", f"model: {text}.", errors={"model": [text]})
        for side in self._absent():
            if schema.get("properties") and names[side] is not None:
                text = f"the model needs one for each item of {self.dataset.filename}"
                _refuse_field(side, text)
        about["names"] = [names["ligand"], names["protein"]]
        about["common"] = {names[side]: value for side, value in self.values.items()}
        return about

    def _absent(self) -> set[str]:
        """What the items of this file lack."""
        own = {"smi": "ligand", "fasta": "protein"}.get(self.layout)
        if own is None or self.proteins is not None:
            return set()
        return set(SIDES) - {own} - set(self.values)

    def head(self) -> list[dict[str, Any]]:
        """The first items, to find a model that takes them."""
        items = [item for _, item in self._source.head(HEAD)]
        return [_guessed(one) for one in items] if self.layout == "csv" else items

    @cached_property
    def _source(self) -> Source:
        from inference.sources import open_source

        return open_source(0, {"source": self.source({})}, {})

    def _rows(self) -> int:
        if self.layout != "parquet":
            return rows_of(self.dataset, self.layout)
        with missing_refused():
            count: int = self._source.looked.rows  # type: ignore[attr-defined]
        if not count:
            raise BadData("it has no rows")
        return count


def given(fields: Mapping[str, Any], user: Any) -> Given:
    """The user's sealed uploads that a batch names.

    Raises Problem `unknown_dataset`, `dataset_not_ready`, `bad_data`, `invalid`.
    """
    found = [_named(one, fields[one], user) for one in UPLOADS if one in fields]
    by_layout = {layout_of(one.filename): one for one in found}
    values = {side: fields[side] for side in SIDES if side in fields}
    if len(found) == 1:
        (layout, dataset), *_ = by_layout.items()
        for side, own in (("ligand", "smi"), ("protein", "fasta")):
            if side in values and layout == own:
                _refuse_field(side, f"each item of {dataset.filename} has its own")
        return Given(dataset, layout, values=values)
    if values:
        _refuse_field(next(iter(values)), "the files have both sides of the pairs")
    if len(found) != 2 or set(by_layout) != {"smi", "fasta"}:
        text = "pairs of all with all are made of one .smi and one .fasta file"
        _refuse_field("dataset", text)
    return Given(by_layout["smi"], "smi", by_layout["fasta"])


def sides(schema: Mapping[str, Any]) -> dict[str, str | None]:
    """What an item calls its ligand and its protein; None if it has none."""
    properties = schema.get("properties")
    return {
        side: next((n for n in names if n in properties), None)
        if properties
        else names[0]
        for side, names in SIDES.items()
    }


def rows_of(upload: Upload, layout: str) -> int:
    """Its number of items. Raises BadData, and Problem `unknown_dataset` if its file is gone."""
    path = uploads.dataset_path(upload)
    with missing_refused():
        if upload.rows is not None:
            count = upload.rows
        else:
            growth = Growth(path.stat().st_size, settings.ENVIRONMENT.upload_limit, int)
            kind = sniff.type_of(upload.filename)
            count = contents.inspect(path, kind, growth).rows or 0
    if not count:
        raise BadData("it has no rows")
    return count


@contextmanager
def missing_refused() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise Problem("unknown_dataset", "The upload's file is gone.") from None


def layout_of(filename: str) -> str:
    """How a file of that name is read. Raises BadData."""
    try:
        kind = sniff.type_of(filename)
    except Problem:
        label = "of an unknown type"
    else:
        if kind.layout in LAYOUTS:
            return kind.layout
        label = kind.label
    raise BadData(f"{filename} is {label}; items are read from {READ} only")


def _named(name: str, dataset: str, user: Any) -> Upload:
    """The upload that stands in that field of a request."""
    upload = uploads.find_dataset(user, dataset)
    own, layout = UPLOADS[name], layout_of(upload.filename)
    if own not in (None, layout):
        text = f"{upload.filename} is no .{own} file; name a table of items as dataset"
        _refuse_field(name, text)
    return upload


def _refuse_field(name: str, text: str) -> None:
    raise Problem("invalid", f"{name}: {text}.", errors={name: [text]})


def _guessed(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item with what looks like a number as one."""
    numbers = {n: read_number(v) for n, v in item.items() if isinstance(v, str)}
    good = {n: v for n, v in numbers.items() if v is not None and math.isfinite(v)}
    return {**item, **good}
