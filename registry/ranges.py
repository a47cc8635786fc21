"""A file as an answer, whole or one range of it, in constant memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponseBase,
    StreamingHttpResponse,
)
from django.utils.http import content_disposition_header

from registry.errors import Problem

CHUNK = 256 * 1024  # bytes
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})\Z")


class NoSuchRange(Problem):
    """The range begins beyond the end; `size` is the file's, in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__("range_not_satisfiable", f"The file has {size:,} bytes.")
        self.size = size


def respond(
    request: HttpRequest, path: Path, *, filename: str, content_type: str, etag: str
) -> HttpResponseBase:
    """The file, or with a `Range` of one part that part. Raises NoSuchRange.

    Several parts at once, and a range of another version by `If-Range`, give the whole file.
    """
    tag = f'"{etag}"'
    file = path.open("rb")
    try:
        size = path.stat().st_size
        asked = request.headers.get("Range", "")
        if request.headers.get("If-Range", tag) != tag:
            asked = ""
        part = _part(asked, size)
    except Problem:
        file.close()
        raise
    response: HttpResponseBase
    if part is None:
        response = FileResponse(file, content_type=content_type)
        length = size
    else:
        start, end = part
        response = StreamingHttpResponse(
            _Slice(file, start, end), status=206, content_type=content_type
        )
        response["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        length = end - start
    response["Content-Length"] = str(length)
    response["Content-Disposition"] = content_disposition_header(True, filename)
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = tag
    return response


class _Slice(Iterator[bytes]):
    """The bytes from `start` up to `end`; Django closes it when the answer is over."""

    def __init__(self, file: IO[bytes], start: int, end: int) -> None:
        file.seek(start)
        self.file, self.left = file, end - start

    def __next__(self) -> bytes:
        chunk = self.file.read(min(CHUNK, self.left))
        if not chunk:
            raise StopIteration
        self.left -= len(chunk)
        return chunk

    def close(self) -> None:
        self.file.close()


def _part(asked: str, size: int) -> tuple[int, int] | None:
    match = RANGE.match(asked.replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None  # as RFC 9110 has it: what is not understood is passed over
    first, last = match.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    if start >= size or start >= end:
        raise NoSuchRange(size)
    return start, end
