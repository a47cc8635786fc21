"""Sealing: a received file is checked, an archive unpacked, and the upload made ready."""

from __future__ import annotations

import datetime
import errno
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import F

from registry import archives, broker, clock, contents, sniff, store, uploads
from registry.archives import Growth
from registry.crashpoints import crashpoint
from registry.errors import Problem
from registry.lines import Findings
from registry.locks import lock_until_commit
from registry.models import Upload

log = logging.getLogger(__name__)

SILENT_AFTER = datetime.timedelta(seconds=10)
TOUCH_EVERY = 2.0  # seconds
MAX_TRIES = 5  # times that sealing may end without a word, as when its process dies


class Gone(Exception):
    """The upload was deleted, or sealed by another delivery, meanwhile."""


def seal(pk: int, *, ticks: Callable[[], float] = time.monotonic) -> str:
    """Check the upload and make it sealed or failed; its state. A second delivery is harmless."""
    upload = Upload.objects.filter(pk=pk).first()
    if upload is None:
        return "deleted"
    if upload.state != Upload.State.SEALING:
        return upload.state
    if upload.tries >= MAX_TRIES:
        return _fail(upload, "error", f"Checking broke off {MAX_TRIES} times.")
    if not upload.touch(tries=F("tries") + 1):
        return "deleted"
    unpacked = store.aside(".unpacked")
    try:
        found = _inspect(upload, unpacked, _touching(upload, ticks))
        crashpoint("unpacked-before-sealed")
        _make_ready(upload, found, unpacked)
    except Gone:
        uploads.forget(upload.sha256)
    except Problem as problem:
        return _fail(upload, problem.code, problem.detail)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _fail(upload, "disk_full", "There is no room to unpack it.")
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return (
        Upload.objects.filter(pk=pk).values_list("state", flat=True).first()
        or "deleted"
    )


def send_again() -> int:
    """Send those whose sealing shows no sign of life; how many."""
    moment = clock.now()
    silent = Upload.objects.filter(
        state=Upload.State.SEALING, touched_at__lte=moment - SILENT_AFTER
    )
    count = 0
    for pk in silent.values_list("pk", flat=True):
        with transaction.atomic():
            # Touched, so that another pass at once does not send it too.
            if silent.filter(pk=pk).update(touched_at=moment):
                broker.background("registry.seal", [pk])
                count += 1
    return count


def _inspect(upload: Upload, unpacked: Path, alive: Callable[[], None]) -> Findings:
    path, kind = uploads.dataset_path(upload), sniff.type_of(upload.filename)
    size = path.stat().st_size
    growth = Growth(size, settings.ENVIRONMENT.upload_limit, alive)
    if kind.layout not in ("zip", "tar"):
        return contents.inspect(path, kind, growth)
    unpacked.mkdir()
    count = archives.unpack(path, kind.layout, kind.gzipped, unpacked, growth)
    return Findings(file_count=count)


def _make_ready(upload: Upload, found: Findings, unpacked: Path) -> None:
    with transaction.atomic():
        lock_until_commit("objects")
        sealed = upload.move(
            Upload.State.SEALED,
            rows=found.rows,
            columns=found.columns,
            preview=found.preview,
            file_count=found.file_count,
        )
        if not sealed:
            raise Gone
        target = uploads.unpacked_path(upload)
        if unpacked.is_dir() and not target.exists():
            unpacked.replace(target)
        crashpoint("sealed-before-commit")
    log.info("Upload %s is sealed: %s files", upload.pk, found.file_count)


def _fail(upload: Upload, reason: str, message: str) -> str:
    if upload.fail(reason, message):
        log.info("Upload %s is refused: %s", upload.pk, message)
    uploads.forget(upload.sha256)
    return upload.state


def _touching(upload: Upload, ticks: Callable[[], float]) -> Callable[[], None]:
    last = ticks()

    def alive() -> None:
        nonlocal last
        if ticks() - last >= TOUCH_EVERY:
            last = ticks()
            if not upload.touch():
                raise Gone

    return alive
