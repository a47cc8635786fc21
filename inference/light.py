"""Rows of a stranger's Parquet file in batches that are never heavy, whatever the file says."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import pyarrow

FEW, MANY, STEP = (
    16,
    4096,
    16,
)  # rows read at once: at first, at most, times each change
PIECE = 32 * 1024**2  # weight of the rows that are handed on together
LARGEST_ROW = 64 * 1024**2  # weight
VALUE = 32  # bytes of a number and its place in a list, once it is Python's
DEEPEST = 32  # types in types
MOST_GROUP = 1024**3  # bytes that a group of rows says it has
MOST_SCHEMA = 4 * 1024**2  # bytes of names and types


class Refused(Exception):
    """The file is whole, but it is not taken; says why."""


def check(file: Any, allowed: int) -> Any:
    """The schema of the rows without dictionaries, which would change from part to part.

    Raises Refused, also if the file says that it unpacks to more than so many bytes.
    """
    about, schema = file.metadata, file.schema_arrow
    sizes = [about.row_group(n).total_byte_size for n in range(about.num_row_groups)]
    if max(sizes, default=0) > MOST_GROUP:
        raise Refused(f"a group of rows has more than {MOST_GROUP:,} bytes")
    if sum(sizes) > allowed:
        raise Refused(f"it unpacks to more than {allowed:,} bytes")
    if about.num_rows < 0:
        raise Refused(f"it says that it has {about.num_rows:,} rows")
    if not schema.names:
        raise Refused("it has no columns")
    if len(set(schema.names)) != len(schema.names):
        raise Refused("it has a column twice")
    plain = pyarrow.schema(
        [one.with_type(_plain(one.type)).remove_metadata() for one in schema]
    )
    if plain.serialize().size > MOST_SCHEMA:
        text = f"its columns are described in more than {MOST_SCHEMA:,} bytes"
        raise Refused(text)
    return plain


def rows(file: Any, schema: Any) -> Iterator[Any]:
    """All rows in that schema, a batch at a time that is light, or one row.

    Raises Refused, MemoryError and what pyarrow raises.
    """
    dense = _Dense(schema)
    for batch in _batches(file):
        for some in dense.batches(batch):
            yield from _pieces(some)


def weight(batch: Any) -> int:
    """The bytes of the rows, or about those that they have as Python's objects if that is more."""
    return sum(int(one.nbytes) + VALUE * _values(one) for one in batch.columns)


def _batches(file: Any) -> Iterator[Any]:
    """Batches as they are read: few rows first, more while they are light.

    The size of a batch stands fast once reading has begun, so another one begins anew at the group
    of rows where it was.
    """
    about = file.metadata
    groups = [about.row_group(n).num_rows for n in range(about.num_row_groups)]
    starts = [0, *accumulate(groups)]
    size, most, done = FEW, MANY, 0
    while True:
        group = max(0, bisect_right(starts, done, hi=len(groups)) - 1)
        at = starts[group]
        left = list(range(group, len(groups)))
        try:
            for batch in file.iter_batches(size, row_groups=left, use_threads=False):
                at += batch.num_rows
                if at <= done:
                    continue
                batch.validate(full=True)
                fresh = batch.slice(batch.num_rows - (at - done))
                done = at
                yield fresh
                # A dictionary is there once, however many rows are read at once.
                heavy = weight(batch) - weight(batch.slice(0, 0))
                if size < most and heavy * STEP < PIECE:
                    size = min(size * STEP, most)
                    break
            else:
                return
        except MemoryError:
            if size == 1:
                raise
            size = most = max(1, size // STEP)


class _Dense:
    """Writes the values of dictionaries out, for few rows first and more while they are light."""

    def __init__(self, schema: Any) -> None:
        self.schema, self.size = schema, FEW

    def batches(self, batch: Any) -> Iterator[Any]:
        if batch.schema.equals(self.schema):
            yield batch
            return
        at = 0
        while at < batch.num_rows:
            some = batch.slice(at, self.size)
            try:
                dense = some.cast(self.schema)
            except MemoryError:
                if self.size == 1:
                    raise
                self.size = max(1, self.size // STEP)
                continue
            yield dense
            at += some.num_rows
            if weight(dense) * STEP < PIECE:
                self.size = min(self.size * STEP, MANY)


def _pieces(batch: Any) -> Iterator[Any]:
    """The batch in parts that are light."""
    heavy = weight(batch)
    if heavy <= PIECE:
        yield batch
    elif batch.num_rows > 1:
        half = batch.num_rows // 2
        yield from _pieces(batch.slice(0, half))
        yield from _pieces(batch.slice(half))
    elif heavy <= LARGEST_ROW:
        yield batch
    else:
        raise Refused(f"a row has more than {LARGEST_ROW:,} bytes")


def _values(array: Any) -> int:
    kind = array.type
    if isinstance(array, pyarrow.ExtensionArray):
        return _values(array.storage)
    if pyarrow.types.is_struct(kind):
        inner = [_values(array.field(n)) for n in range(kind.num_fields)]
        return len(array) + sum(inner)
    if pyarrow.types.is_map(kind):
        first, last = array.offsets[0].as_py(), array.offsets[-1].as_py()
        sides = (array.keys, array.items)
        inner = [_values(one.slice(first, last - first)) for one in sides]
        return len(array) + sum(inner)
    if pyarrow.types.is_nested(kind):
        return len(array) + _values(array.flatten())
    return len(array)


def _plain(kind: Any, depth: int = 0) -> Any:
    """The type without dictionaries. Raises Refused if it is too deep."""
    types = pyarrow.types
    if depth > DEEPEST:
        raise Refused(f"its types are nested more than {DEEPEST} deep")
    if types.is_dictionary(kind):
        return _plain(kind.value_type, depth + 1)
    if not types.is_nested(kind):
        return kind
    if types.is_map(kind):
        key, item = _plain(kind.key_type, depth + 1), _plain(kind.item_type, depth + 1)
        return pyarrow.map_(key, kind.item_field.with_type(item))
    fields = [kind.field(n) for n in range(kind.num_fields)]
    inner = [one.with_type(_plain(one.type, depth + 1)) for one in fields]
    if all(one.equals(other) for one, other in zip(inner, fields, strict=True)):
        return kind
    if types.is_struct(kind):
        return pyarrow.struct(inner)
    if types.is_fixed_size_list(kind):
        return pyarrow.list_(inner[0], kind.list_size)
    lists = {types.is_list: pyarrow.list_, types.is_large_list: pyarrow.large_list}
    for is_kind, make in lists.items():
        if is_kind(kind):
            return make(inner[0])
    raise Refused(f"a column of type {str(kind)[:100]} cannot be read")
