"""What stands in a data file; what is wrong with it is told by row and column."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry.archives import Growth
from registry.errors import BadData
from registry.lines import Findings, Lines
from registry.records import inspect_fasta, inspect_jsonl, records
from registry.sniff import FileType
from registry.tables import inspect_csv

LAYOUTS: dict[str, Callable[[Lines], Findings]] = {
    "csv": inspect_csv,
    "jsonl": inspect_jsonl,
    "smi": records(
        lambda line: bool(line.strip()) and not line.startswith("#"),
        "there is no SMILES in the file",
    ),
    "sdf": records(
        lambda line: line.rstrip() == "$$$$", "there is no record that ends with $$$$"
    ),
    "pdb": records(
        lambda line: line.startswith(("ATOM  ", "HETATM")), "there are no atoms"
    ),
    "fasta": inspect_fasta,
}


def inspect(path: Path, kind: FileType, growth: Growth) -> Findings:
    """Check a data file (not an archive) from end to end. Raises BadData."""
    if kind.layout == "parquet":
        return _parquet(path)
    opener: Any = gzip.open if kind.gzipped else open
    with opener(path, "rb") as file:
        try:
            return LAYOUTS[kind.layout](Lines(file, growth))
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise BadData("the gzip file is damaged") from None


def _parquet(path: Path) -> Findings:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(size - 8, 0))
        tail = file.read(8)
    footer = int.from_bytes(tail[:4], "little")
    if size < 12 or head != b"PAR1" or tail[4:] != b"PAR1" or footer > size - 12:
        raise BadData("the Parquet file is not whole")
    return Findings()
