"""Pickles known by their content: reading one may run whatever it says."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickletools
import zlib
from typing import IO, Any

from registry import sniff

HEAD = 64 * 1024  # bytes that are looked at
NEWEST = 5  # protocol
OPCODES = frozenset(ord(one.code) for one in pickletools.opcodes)
CODE = {"GLOBAL", "INST", "STACK_GLOBAL"}
ARRAY = b"\x93NUMPY"
OBJECTS = (b"'O'", b"|O", b"=O", b"<O", b">O")  # how an array's header names objects
ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
OPENERS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"\x5d\x00\x00": lzma.open,
}


def kind_of(head: bytes) -> str:
    """What kind of pickle the first bytes of a file show, in words; empty if none."""
    if is_pickle(head):
        return "a pickle"
    if head.startswith(ARRAY) and any(one in head[:512] for one in OBJECTS):
        return "a NumPy file of pickled objects"
    if is_pickle(_unpacked(head)):
        return "a compressed pickle"
    return ""


def is_pickle(head: bytes) -> bool:
    """Whether unpickling would begin to do what it finds here; archives are looked at member by member."""
    if sniff.kind_of(head) in ("tar", "zip"):
        return False
    if head[:1] == b"\x80":  # protocol 2 and later say so
        return len(head) > 2 and head[1] <= NEWEST and head[2] in OPCODES
    if head[:1].isspace() or head[:1] in (b"{", b"["):
        return False
    names, end = set(), 0
    try:
        for opcode, _, at in pickletools.genops(head[:HEAD]):
            names.add(opcode.name)
            end = (at or 0) + 1
    except Exception:
        return False
    # Other texts begin like one too; those neither end with it nor name any code.
    return bool(names & CODE) or (len(names) > 1 and not head[end:].strip())


def _unpacked(head: bytes) -> bytes:
    """The beginning of what is packed there, as far as these bytes go."""
    if head[:2] in ZLIB:
        try:
            return zlib.decompressobj().decompress(head, HEAD)
        except zlib.error:
            return b""
    for magic, opener in OPENERS.items():
        if head.startswith(magic):
            file: IO[bytes] = opener(io.BytesIO(head))
            return _as_far_as_it_goes(file)
    return b""


def _as_far_as_it_goes(file: IO[bytes]) -> bytes:
    found = b""
    try:
        while len(found) < HEAD and (piece := file.read(256)):
            found += piece
    except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError):
        pass
    return found
