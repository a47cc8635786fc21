"""Archives from strangers: unpacked into one fresh directory, or refused with a reason.

Nothing is written outside that directory, and no more than the limits allow; the caller removes
the directory when a Problem comes.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from registry import sniff
from registry.errors import Problem

MEMBERS = 10_000
RATIO = 100  # unpacked to packed; real data stays far below
HARMLESS = 1024**2  # bytes that any archive may unpack to, whatever the ratio
DIRECTORY = 32 * 1024**2  # bytes of a ZIP's directory, which is read as a whole
HEADER = 64 * 1024  # bytes of a tar's extended header, which is read as a whole
NAME, PART, DEPTH = 1024, 255, 32  # bytes, bytes, directories
CHUNK = 1024**2  # bytes
ODD = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NESTED = (
    *(".zip", ".tar", ".tgz", ".gz", ".bz2", ".tbz2", ".xz", ".txz", ".7z", ".rar"),
    *(".zst", ".lz4", ".lzma", ".cab", ".iso", ".jar"),
)
EXTENDED = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
STORED_OR_DEFLATED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def refused(text: str) -> Problem:
    return Problem("bad_archive", text)


class Growth:
    """How much came out of a packed file so far, held to a ratio and a total."""

    def __init__(self, packed: int, total: int, alive: Callable[[], object]) -> None:
        self.allowed = min(total, max(HARMLESS, RATIO * packed))
        self.unpacked, self.alive = 0, alive

    def add(self, count: int) -> None:
        """Count bytes. Raises Problem `bad_archive` beyond a limit."""
        self.check(self.unpacked + count)
        self.unpacked += count
        self.alive()

    def check(self, unpacked: int) -> None:
        if unpacked > self.allowed:
            raise refused(
                f"It unpacks to more than {self.allowed:,} bytes, the most that is "
                f"allowed for its size ({RATIO} times, within the limit of an upload)."
            )


class Tree:
    """The fresh directory, and the names that stand in it already."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: set[tuple[str, ...]] = set()
        self.directories: set[tuple[str, ...]] = {()}

    def add(self, name: str, *, directory: bool = False) -> Path:
        """The path of a member that keeps to the rules. Raises Problem `bad_archive`."""
        parts = _parts(name)
        above = {parts[:end] for end in range(len(parts))}
        if above & self.files or parts in self.files:
            raise refused(f"{_shown(name)}: the name stands there twice.")
        if not directory:
            if parts in self.directories:
                raise refused(f"{_shown(name)}: the name stands there twice.")
            if name.lower().endswith(NESTED):
                raise refused(f"{_shown(name)}: an archive inside an archive.")
            self.files.add(parts)
        self.directories |= above | ({parts} if directory else set())
        if len(self.files) + len(self.directories) > MEMBERS:
            raise refused(f"It holds more than {MEMBERS:,} members.")
        return self.root.joinpath(*parts)

    def write(self, path: Path, name: str, source: Readable, growth: Growth) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        head = source.read(sniff.HEAD)
        if sniff.kind_of(head) in sniff.PACKED:
            raise refused(f"{_shown(name)}: an archive inside an archive.")
        with path.open("xb") as file:
            while head:
                growth.add(len(head))
                file.write(head)
                head = source.read(CHUNK)
            file.flush()
            os.fsync(file.fileno())


def unpack(path: Path, layout: str, gzipped: bool, root: Path, growth: Growth) -> int:
    """Unpack the archive into the empty directory `root`; the number of files.

    Raises Problem `bad_archive` for links, devices, paths that lead out, names that stand twice,
    archives within, encryption, damage, no files, and more than the limits.
    """
    tree = Tree(root)
    with _readable():
        if layout == "zip":
            _unpack_zip(path, tree, growth)
        else:
            _unpack_tar(path, gzipped, tree, growth)
    if not tree.files:
        raise refused("It holds no files.")
    return len(tree.files)


def _unpack_zip(path: Path, tree: Tree, growth: Growth) -> None:
    with path.open("rb") as file:
        # ZipFile reads the whole directory at once, so its size is looked at before.
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        if end and end[5] > DIRECTORY:
            raise refused(f"It holds more than {MEMBERS:,} members.")
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            places = [(one, _zip_place(one, tree)) for one in members]
            growth.check(sum(one.file_size for one in members))
            for one, place in places:
                if one.is_dir():
                    place.mkdir(parents=True, exist_ok=True)
                    continue
                with archive.open(one) as source:
                    tree.write(place, one.filename, source, growth)


def _zip_place(one: zipfile.ZipInfo, tree: Tree) -> Path:
    name, mode = one.orig_filename, one.external_attr >> 16
    if one.flag_bits & 0x41:  # encrypted, in the old or the strong way
        raise refused(f"{_shown(name)}: the member is encrypted.")
    if one.compress_type not in STORED_OR_DEFLATED:
        raise refused(f"{_shown(name)}: only stored and deflated members are read.")
    # The upper four bits are the type; many tools leave them zero.
    if mode >> 12 not in (0, 0o4, 0o10):
        raise refused(f"{_shown(name)}: a link or a special file.")
    return tree.add(name, directory=one.is_dir())


class Header(tarfile.TarInfo):
    """A header that is refused, not passed over, when it is damaged or huge."""

    @classmethod
    def frombuf(cls, *args: Any, **kwargs: Any) -> Header:
        try:
            header = super().frombuf(*args, **kwargs)
        except (tarfile.EmptyHeaderError, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise refused(f"The archive is damaged: {error}.") from None
        if header.type in EXTENDED and header.size > HEADER:
            raise refused("The archive holds a header that is too long.")
        return header


class _Counted:
    """A file whose reading counts as growth."""

    def __init__(self, file: Readable, growth: Growth) -> None:
        self.file, self.growth = file, growth

    def read(self, size: int) -> bytes:
        chunk = self.file.read(size)
        self.growth.add(len(chunk))
        return chunk


def _unpack_tar(path: Path, gzipped: bool, tree: Tree, growth: Growth) -> None:
    opener: Any = gzip.open if gzipped else open
    with opener(path, "rb") as packed:
        source: Any = _Counted(packed, growth)
        # Already counted by the stream that it comes out of.
        uncounted = Growth(0, 0, growth.alive)
        uncounted.allowed = growth.allowed
        with tarfile.open(fileobj=source, mode="r|", tarinfo=Header) as archive:
            for one in archive:
                _unpack_member(archive, one, tree, uncounted)
        while source.read(CHUNK):  # to the end, where gzip has its checksum
            pass


def _unpack_member(
    archive: tarfile.TarFile, one: tarfile.TarInfo, tree: Tree, growth: Growth
) -> None:
    name = one.name
    if one.issym() or one.islnk():
        raise refused(f"{_shown(name)}: a link.")
    if not (one.isdir() or one.isreg()) or one.issparse():
        raise refused(f"{_shown(name)}: a device or another special file.")
    place = tree.add(name, directory=one.isdir())
    tarfile.data_filter(one, str(tree.root))
    if one.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return
    source: IO[bytes] | None = archive.extractfile(one)
    assert source is not None
    tree.write(place, name, source, growth)


@contextmanager
def _readable() -> Iterator[None]:
    """Turn what the readers of archives raise for damage into one Problem."""
    damage = (
        *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error),
        *(EOFError, ValueError, OverflowError, RecursionError, NotImplementedError),
    )
    try:
        yield
    except damage as error:
        text = str(error) or type(error).__name__
        raise refused(f"The archive is damaged or not one: {text}.") from None
    except OSError as error:
        # zipfile seeks to wherever a damaged directory says.
        if error.errno != errno.EINVAL:
            raise
        raise refused("The archive is damaged: a member lies outside it.") from None


def _parts(name: str) -> tuple[str, ...]:
    shown = _shown(name)
    if not name or ODD.search(name):
        raise refused(f"{shown}: a name with control characters, or none.")
    if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name):
        raise refused(f"{shown}: an absolute path, a drive or a backslash.")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise refused(f"{shown}: a path that leads out of the archive.")
    sizes = [len(os.fsencode(part)) for part in parts]
    if sum(sizes) > NAME or max(sizes, default=0) > PART or len(parts) > DEPTH:
        raise refused(f"{shown}: a name that is too long or too deep.")
    return parts


def _shown(name: str) -> str:
    return repr(name[:100])
