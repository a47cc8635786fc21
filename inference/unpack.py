"""Unpacks a stranger's Parquet file into an Arrow file of light parts; says how that went as JSON.

A process of its own: `python -m inference.unpack PARENT ORDER`, where ORDER is JSON with `path`,
`target`, `every` (rows of a part), `count` (rows in all, perhaps null), `allowed` (bytes that the
file may say it unpacks to), `memory` and `written` (bytes), `processor` (seconds).
"""

from __future__ import annotations

import errno
import json
from array import array
from collections.abc import Iterator
from typing import Any

import pyarrow
from pyarrow import parquet

from inference import light
from registry import confined

NOT_ITS_FAULT = {  # what the disk says, not the file
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE,
    errno.ENOENT, errno.EACCES, errno.EMFILE, errno.ENFILE,
}  # fmt: skip
LONGEST = 200  # characters of a reason


def work(order: dict[str, Any]) -> dict[str, Any]:
    """What came of it: `rows` as the file says, `written`, `starts` (the batch in which each part
    begins), or `error` or `errno`."""
    try:
        file = parquet.ParquetFile(order["path"], memory_map=True)
        schema, said = light.check(file, order["allowed"]), file.metadata.num_rows
        with (
            pyarrow.OSFile(order["target"], "wb") as out,
            pyarrow.ipc.new_file(out, schema) as writer,
        ):
            parts = Parts(writer, schema, order["every"])
            for batch in _first(light.rows(file, schema), order["count"]):
                parts.add(_checked(batch, parts.rows))
            parts.flush()
    except light.Refused as error:
        return {"error": str(error)}
    except MemoryError:
        return {
            "error": f"reading it takes more than {order['memory']:,} bytes of memory"
        }
    except OSError as error:
        if error.errno in NOT_ITS_FAULT:
            return {"errno": error.errno}
        if error.errno == errno.EFBIG:
            return {"error": f"it unpacks to more than {order['written']:,} bytes"}
        return {"error": _text(error, order["path"])}
    except Exception as error:
        return {"error": _text(error, order["path"])}
    return {"rows": said, "written": parts.rows, "starts": parts.starts.tolist()}


class Parts:
    """Parts of `every` rows, each of one batch, or of several where the rows are heavy."""

    def __init__(self, writer: Any, schema: Any, every: int) -> None:
        self.writer, self.schema, self.every = writer, schema, every
        self.rows, self.batches, self.starts = 0, 0, array("q")
        self._held: list[Any] = []
        self._held_rows = self._held_weight = 0

    def add(self, batch: Any) -> None:
        while batch.num_rows:
            left = self.every - self.rows % self.every
            some, batch = batch.slice(0, left), batch.slice(left)
            heavy = light.weight(some)
            if self._held and self._held_weight + heavy > light.PIECE:
                self.flush()
            self._held.append(some)
            self._held_rows += some.num_rows
            self._held_weight += heavy
            self.rows += some.num_rows
            if self.rows % self.every == 0:
                self.flush()

    def flush(self) -> None:
        if not self._held:
            return
        if (self.rows - self._held_rows) % self.every == 0:
            self.starts.append(self.batches)
        if len(self._held) == 1:
            self.writer.write_batch(self._held[0])
        else:
            self.writer.write_batch(pyarrow.concat_batches(self._held))
        self.batches += 1
        self._held, self._held_rows, self._held_weight = [], 0, 0


def _first(batches: Iterator[Any], count: int | None) -> Iterator[Any]:
    """All of them, or so many rows, fewer where they are heavy."""
    heavy = 0
    for batch in batches:
        if count is None:
            yield batch
            continue
        some = batch.slice(0, count)
        yield some
        count, heavy = count - some.num_rows, heavy + light.weight(some)
        if count <= 0 or heavy > light.PIECE:
            return


def _checked(batch: Any, first: int) -> Any:
    """The batch, if each of its values can be Python's. Raises light.Refused."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if not _is_plain(column.type):
            try:
                column.to_pylist()
            except (ValueError, OverflowError, ArithmeticError, LookupError) as error:
                place = f"column {name[:60]}, rows from {first + 1}"
                raise light.Refused(f"{place}: {_text(error, '')}") from None
    return batch


def _is_plain(kind: Any) -> bool:
    """Whether Python has every value of that type: it has not of times."""
    types = pyarrow.types
    if types.is_temporal(kind) or isinstance(kind, pyarrow.BaseExtensionType):
        return False
    if not types.is_nested(kind):
        return True
    return all(_is_plain(kind.field(n).type) for n in range(kind.num_fields))


def _text(error: Exception, path: str) -> str:
    lines = str(error).splitlines()
    text = lines[0] if lines else type(error).__name__
    return (text.replace(path, "it") if path else text)[:LONGEST]


def main() -> None:
    (text,), told = confined.begin()
    order = json.loads(text)
    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    confined.hold(order["memory"], order["written"], order["processor"])
    confined.tell(told, work(order))


if __name__ == "__main__":
    main()
