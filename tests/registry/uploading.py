"""Ways to send files in tests, whole or cut, and to see what is left of them."""

from __future__ import annotations

import dataclasses
import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from registry import clock, sealing, store
from registry.errors import Problem
from registry.models import Upload

CSV = b"smiles,affinity\nCCO,5.1\nCCN,6.25\n"


class Wire:
    """A body as a server hands it over; `on_read` sees each call, the end may come early."""

    def __init__(self, content: bytes, on_read: Callable[[], object] = int) -> None:
        self.content, self.on_read, self.reads = io.BytesIO(content), on_read, 0

    def read(self, size: int) -> bytes:
        self.reads += 1
        self.on_read()
        return self.content.read(size)

    def readline(self, size: int = -1) -> bytes:
        raise AssertionError("nobody reads a body by lines")


def send(
    api: APIClient, content: bytes, filename: str = "data.csv", **fields: str
) -> Any:
    file = SimpleUploadedFile(filename, content)
    return api.post("/api/v1/uploads", {"file": file, **fields}, format="multipart")


def send_raw(
    api: APIClient,
    wire: Wire,
    length: int | None,
    filename: str = "data.csv",
    **extra: Any,
) -> Any:
    environ: dict[str, Any] = {
        "wsgi.input": wire,
        "HTTP_CONTENT_DISPOSITION": f'attachment; filename="{filename}"',
        **({} if length is None else {"CONTENT_LENGTH": str(length)}),
        **extra,
    }
    return api.generic(
        "POST", "/api/v1/uploads", b"", "application/octet-stream", **environ
    )


def sealed(api: APIClient, content: bytes, filename: str = "data.csv") -> Upload:
    """The upload after its sealing, whether that ended well or not."""
    response = send(api, content, filename)
    assert response.status_code == 201, response.content
    sealing.seal(int(response.data["id"]))
    return Upload.objects.get(pk=response.data["id"])


def row(owner: User, **fields: Any) -> Upload:
    moment = clock.now()
    defaults: dict[str, Any] = {
        "state": Upload.State.RECEIVING,
        "created_at": moment,
        "touched_at": moment,
    }
    return Upload.objects.create(owner=owner, **{**defaults, **fields})


def files_left() -> list[str]:
    """Every file that stands in the store."""
    root = store.root()
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()
    )


def zipped(members: Mapping[str, bytes], **how: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(
        file, "w", **{"compression": zipfile.ZIP_DEFLATED, **how}
    ) as z:
        for name, content in members.items():
            z.writestr(name, content)
    return file.getvalue()


def tarred(
    *members: tarfile.TarInfo | tuple[str, bytes], gzipped: bool = False
) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for one in members:
            if isinstance(one, tarfile.TarInfo):
                archive.addfile(one)
            else:
                info = tarfile.TarInfo(one[0])
                info.size = len(one[1])
                archive.addfile(info, io.BytesIO(one[1]))
    content = file.getvalue()
    return gzip.compress(content, mtime=0) if gzipped else content


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def limited(settings: Any, **limits: int) -> None:
    settings.ENVIRONMENT = dataclasses.replace(settings.ENVIRONMENT, **limits)


def outcome(call: Callable[[], Any]) -> Any:
    """What the call gives, or the refusal that it raises; anything else is raised on."""
    try:
        return call()
    except Problem as problem:
        return problem
