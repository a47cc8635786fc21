"""What a file claims to be by its name, and what its first bytes show it to be."""

from __future__ import annotations

from dataclasses import dataclass

from registry.errors import Problem

HEAD = 512  # bytes that are enough to know a file by


@dataclass(frozen=True)
class FileType:
    """An accepted type of file; `layout` says how its content is checked."""

    suffix: str
    label: str
    content_type: str
    layout: str
    gzipped: bool = False


TYPES = (
    FileType(".csv", "a CSV file", "text/csv", "csv"),
    FileType(".csv.gz", "a gzipped CSV file", "application/gzip", "csv", True),
    FileType(".jsonl", "a JSON Lines file", "application/x-ndjson", "jsonl"),
    FileType(".parquet", "a Parquet file", "application/vnd.apache.parquet", "parquet"),
    FileType(".smi", "a SMILES file", "chemical/x-daylight-smiles", "smi"),
    FileType(".sdf", "an SD file", "chemical/x-mdl-sdfile", "sdf"),
    FileType(".pdb", "a PDB file", "chemical/x-pdb", "pdb"),
    FileType(".fasta", "a FASTA file", "text/x-fasta", "fasta"),
    FileType(".zip", "a ZIP archive", "application/zip", "zip"),
    FileType(".tar", "a tar archive", "application/x-tar", "tar"),
    FileType(".tar.gz", "a gzipped tar archive", "application/gzip", "tar", True),
    FileType(".tgz", "a gzipped tar archive", "application/gzip", "tar", True),
)
ACCEPTED = ", ".join(one.suffix for one in TYPES)

SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"\x1f\x8b", "gzip"),
    (257, b"ustar", "tar"),
    (0, b"Rar!\x1a\x07", "rar"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (4, b"1AY&SY", "bzip2"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"PAR1", "parquet"),
    (0, b"\x7fELF", "program"),
    (0, b"\xcf\xfa\xed\xfe", "program"),
    (0, b"%PDF-", "pdf"),
    (0, b"\x89PNG\r\n\x1a\n", "image"),
    (0, b"\xff\xd8\xff", "image"),
    (0, b"GIF87a", "image"),
    (0, b"GIF89a", "image"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "office"),
    (0, b"SQLite format 3\x00", "sqlite"),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
)
LABELS = {
    "zip": "a ZIP archive",
    "gzip": "a gzip file",
    "tar": "a tar archive",
    "rar": "a RAR archive",
    "7z": "a 7z archive",
    "bzip2": "a bzip2 file",
    "xz": "an xz file",
    "zstd": "a Zstandard file",
    "parquet": "a Parquet file",
    "program": "a program",
    "pdf": "a PDF document",
    "image": "an image",
    "office": "an old Office document",
    "sqlite": "an SQLite database",
    "hdf5": "an HDF5 file",
}
PACKED = frozenset({"zip", "gzip", "tar", "rar", "7z", "bzip2", "xz", "zstd"})


def type_of(filename: str) -> FileType:
    """The accepted type that the name claims. Raises Problem `unsupported_media_type`."""
    name = filename.lower()
    fitting = [one for one in TYPES if name.endswith(one.suffix)]
    if not fitting:
        text = f"files of this type are not accepted; accepted are {ACCEPTED}"
        raise Problem("unsupported_media_type", f"{filename}: {text}.")
    return max(fitting, key=lambda one: len(one.suffix))


def kind_of(head: bytes) -> str | None:
    """What the first bytes of a file show, one of LABELS, or None if nothing is known."""
    for offset, magic, kind in SIGNATURES:
        if head[offset : offset + len(magic)] == magic:
            return kind
    # Text may begin with MZ as well (mass spectra do), but holds no zero bytes.
    if head[:2] == b"MZ" and b"\0" in head[:64]:
        return "program"
    return None


def check_head(filename: str, head: bytes) -> None:
    """Refuse a file whose first bytes show another type than its name claims.

    Raises Problem `unsupported_media_type`.
    """
    claimed, kind = type_of(filename), kind_of(head)
    if kind == _expected(claimed):
        return
    if kind is None and claimed.layout == "tar" and not claimed.gzipped:
        return  # tar archives of before 1988 have no mark
    shown = LABELS[kind] if kind else "something else"
    raise Problem(
        "unsupported_media_type",
        f"{filename}: named as {claimed.label}, but its content is {shown}.",
    )


def _expected(claimed: FileType) -> str | None:
    if claimed.gzipped:
        return "gzip"
    return claimed.layout if claimed.layout in LABELS else None
