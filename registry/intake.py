"""A request's body on its way to the disk, in constant memory, counted and hashed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.utils.http import parse_header_parameters

from registry import sniff, store
from registry.archives import ODD
from registry.errors import BadData, Problem
from registry.models import Upload
from registry.uploads import CutShort, Received, clean_filename
from registry.wanted import DATA, Wanted

CHUNK = 1024**2  # bytes
AROUND = 1024**2  # bytes that a form may add to its file
TOUCH_EVERY = 2.0  # seconds
RESERVE = 256 * 1024**2  # bytes of the disk that stay free
LONGEST = {"name": 200, "description": 10_000}  # characters


class StoodStill(CutShort):
    """The body stood still, or came too slowly."""

    def __init__(self, detail: str) -> None:
        Problem.__init__(self, "timeout_body", detail)


class Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Announced:
    """What the headers alone say; `filename` is empty for a form, which names it within."""

    length: int | None
    filename: str
    fields: Mapping[str, str]


def announced(request: HttpRequest, wanted: Wanted = DATA) -> Announced:
    """Check the headers, without a look at the body.

    Raises Problem `too_large`, `length_required`, `invalid`, `malformed`, `disk_full` or
    `unsupported_media_type`.
    """
    length = _length(request.META)
    limit = wanted.limit()
    filename = ""
    if _is_form(request):
        limit += AROUND
    else:
        filename = _disposed(request)
        wanted.check_name(filename)
        # The server shows a body that was cut as one that ended, if it has no length.
        if length is None:
            raise Problem("length_required", "Send a Content-Length, or a form.")
    if length is not None and length > limit:
        raise too_large(wanted.limit())
    store.root().mkdir(parents=True, exist_ok=True)
    if (length or 0) + RESERVE > shutil.disk_usage(store.root()).free:
        raise disk_full()
    fields = {name: request.GET[name] for name in LONGEST if name in request.GET}
    return Announced(length, filename, fields)


def receive(
    request: HttpRequest,
    told: Announced,
    upload: Upload,
    path: Path,
    *,
    wanted: Wanted = DATA,
    ticks: Callable[[], float] = time.monotonic,
) -> Received:
    """Read the whole body and write its file to `path`.

    Raises CutShort if it ends early or stands still, and Problem `too_large`, `invalid`, `malformed`, `bad_data`,
    `disk_full` or `unsupported_media_type`.
    """
    touch = _touching(upload, ticks)
    body = Body(request.META["wsgi.input"], told.length, touch, wanted.limit())
    try:
        with Sink(path, wanted) as sink:
            fields = dict(told.fields)
            if _is_form(request):
                fields |= _read_form(request, body, sink)
            else:
                sink.begin(told.filename)
                while chunk := body.read(CHUNK):
                    sink.write(chunk)
                sink.whole = True
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full() from None
        raise
    fields = {name: text.strip() for name, text in fields.items()}
    _check(fields, sink)
    return Received(
        path,
        sink.filename,
        fields.get("name") or sink.filename[: LONGEST["name"]],
        fields.get("description", ""),
        sink.size,
        sink.sha256.hexdigest(),
        fields.get("name", ""),
    )


class Body:
    """The stream of a body, which tells a body that was cut from one that ended."""

    def __init__(
        self,
        source: Source,
        length: int | None,
        alive: Callable[[int], None],
        limit: int,
    ) -> None:
        self.source, self.length, self.alive = source, length, alive
        self.limit = limit
        self.count = 0  # bytes so far

    def read(self, size: int) -> bytes:
        if self.length is not None:
            size = min(size, self.length - self.count)
        if size <= 0:
            return b""
        try:
            chunk = self.source.read(size)
        except OSError:
            chunk = b""
        except Problem as problem:
            if problem.code == "timeout_body":
                raise StoodStill(problem.detail) from None
            raise
        self.count += len(chunk)
        if not chunk and self.length is not None:
            raise CutShort(f"{self.count:,} of {self.length:,} bytes came.")
        if self.count > self.limit + AROUND:
            raise too_large(self.limit)
        self.alive(self.count)
        return chunk


class Sink(FileUploadHandler):
    """The one file of a request, written to a path as it comes."""

    chunk_size = CHUNK

    def __init__(self, path: Path, wanted: Wanted) -> None:
        super().__init__()
        self.wanted, self.limit = wanted, wanted.limit()
        self.size, self.sha256 = 0, hashlib.sha256()
        self.filename, self.whole, self.head = "", False, b""
        self.file = path.open("xb")

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with self.file:
            if error is None:
                self.file.flush()
                os.fsync(self.file.fileno())

    def begin(self, given: str) -> None:
        if self.filename:
            raise _invalid("file", "one file in a request")
        self.filename = clean_filename(given)
        self.wanted.check_name(self.filename)

    def write(self, chunk: bytes) -> None:
        if len(self.head) < sniff.HEAD:
            self.head += chunk[: sniff.HEAD - len(self.head)]
            if len(self.head) == sniff.HEAD:
                self.wanted.check_head(self.filename, self.head)
        self.size += len(chunk)
        if self.size > self.limit:
            raise too_large(self.limit)
        self.sha256.update(chunk)
        self.file.write(chunk)

    # What Django's parser of forms calls

    def new_file(
        self, field_name: str, file_name: str, *args: Any, **kwargs: Any
    ) -> None:
        if field_name != "file":
            raise _invalid(field_name[:100], "the file belongs into the part `file`")
        self.begin(file_name)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.write(raw_data)

    def file_complete(self, file_size: int) -> None:
        self.whole = True


class _Form(MultiPartParser):
    def sanitize_file_name(self, file_name: str) -> str:
        return file_name  # refused by its own rules, not mended


def too_large(limit: int) -> Problem:
    return Problem("too_large", f"A file may have {limit:,} bytes at most.")


def disk_full() -> Problem:
    return Problem("disk_full", "There is no room for this file.", retry_after=60)


def _read_form(request: HttpRequest, body: Body, sink: Sink) -> dict[str, str]:
    meta = dict(request.META)
    if body.length is None:
        meta["CONTENT_LENGTH"] = "1"  # the parser reads nothing at all without one
    try:
        source: Any = body
        fields, _ = _Form(meta, source, [sink], "utf-8").parse()
    except (MultiPartParserError, SuspiciousOperation) as error:
        raise Problem("malformed", f"The form cannot be read: {error}") from None
    if sink.filename and not sink.whole:
        raise CutShort("The form ended within the file.")
    if not sink.filename:
        raise _invalid("file", "missing: send the file in the part `file`")
    return {name: str(fields[name]) for name in LONGEST if name in fields}


def _check(fields: Mapping[str, str], sink: Sink) -> None:
    for name, text in fields.items():
        if len(text) > LONGEST[name]:
            raise _invalid(name, f"longer than {LONGEST[name]:,} characters")
        if "\0" in text or (name == "name" and ODD.search(text)):
            raise _invalid(name, "holds control characters")
    if sink.size == 0:
        raise BadData("the file is empty")
    sink.wanted.check_head(sink.filename, sink.head)


def _touching(upload: Upload, ticks: Callable[[], float]) -> Callable[[int], None]:
    last = ticks()

    def alive(count: int) -> None:
        nonlocal last
        if ticks() - last >= TOUCH_EVERY:
            last = ticks()
            if not upload.touch(received=count):
                raise CutShort("The upload stood still for too long and was given up.")

    return alive


def _is_form(request: HttpRequest) -> bool:
    return (request.content_type or "").lower() == "multipart/form-data"


def _length(meta: Mapping[str, Any]) -> int | None:
    text = meta.get("CONTENT_LENGTH") or ""
    if not text and "chunked" in meta.get("HTTP_TRANSFER_ENCODING", "").lower():
        return None
    if not (text or "0").isdecimal():
        raise Problem("malformed", "The Content-Length is not a number.")
    return int(text or 0)


def _disposed(request: HttpRequest) -> str:
    _, options = parse_header_parameters(request.headers.get("Content-Disposition", ""))
    given = options.get("filename", "")
    if not given:
        raise _invalid(
            "file",
            "missing: send multipart/form-data with the part `file`, or the bytes with "
            'Content-Disposition: attachment; filename="..."',
        )
    return clean_filename(given)


def _invalid(name: str, text: str) -> Problem:
    return Problem("invalid", f"{name}: {text}.", errors={name: [text]})
