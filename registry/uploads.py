"""What may happen to an upload on the web side: a slot, keeping, finding, deleting."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q

from registry import archives, broker, clock, sniff, store
from registry.crashpoints import crashpoint
from registry.errors import Problem
from registry.locks import lock_until_commit
from registry.models import Task, Upload

BUSY_FOR = 2.0  # seconds after which it is worth asking again
LONGEST_NAME = 255  # characters


class CutShort(Problem):
    """The body ended, or stood still, before all of it had come."""

    def __init__(self, detail: str) -> None:
        super().__init__("malformed", detail)


@dataclass(frozen=True)
class Received:
    """A whole file aside, with what its sender said of it; sizes in bytes."""

    path: Path
    filename: str
    name: str
    description: str
    size: int
    sha256: str
    asked_name: str = ""  # empty if the name is but the file's


@contextmanager
def slot(
    owner: Any, filename: str = "", *, leaves_record: bool = True
) -> Iterator[Upload]:
    """A row in state receiving, while a body is read; the slots are counted over all processes.

    A row that was not kept is gone afterwards, or stands as failed if its sender did not hear why
    and it `leaves_record`. Raises Problem `uploads_busy` when all slots are taken.
    """
    upload = _take(owner, filename)
    if not leaves_record:
        try:
            yield upload
        finally:
            _give_back(upload)
        return
    try:
        yield upload
    except CutShort as problem:
        _fail(upload, "cut_short", problem.detail)
        raise
    except Problem:
        _give_back(upload)
        raise
    except BaseException:
        _fail(upload, "error", "The server broke off; please send it again.")
        raise
    _give_back(upload)


def keep(upload: Upload, file: Received) -> None:
    """Put the whole file into the store and its sealing into the background.

    Call it in a transaction. Raises CutShort if the row was given up meanwhile.
    """
    # Nobody may judge the object unnamed between its publishing and this commit.
    lock_until_commit("objects")
    kept = upload.move(
        Upload.State.SEALING,
        name=file.name,
        description=file.description,
        filename=file.filename,
        content_type=sniff.type_of(file.filename).content_type,
        size=file.size,
        received=file.size,
        sha256=file.sha256,
    )
    if not kept:
        raise CutShort("The upload stood still for too long and was given up.")
    store.publish_file(file.path, file.sha256)
    crashpoint("kept-before-commit")
    broker.background("registry.seal", [upload.pk])


def find_dataset(user: Any, dataset: str) -> Upload:
    """The user's sealed upload of that id; in a transaction it cannot be deleted meanwhile.

    Raises Problem `unknown_dataset`, `dataset_not_ready` or `bad_data`.
    """
    rows = Upload.objects.visible_to(user)
    if connection.in_atomic_block:
        rows = rows.select_for_update(no_key=True)
    is_id = dataset.isascii() and dataset.isdigit() and len(dataset) <= 18
    upload = rows.filter(pk=int(dataset)).first() if is_id else None
    if upload is None:
        text = f"There is no data set {dataset[:100]!r}."
        raise Problem("unknown_dataset", text, errors={"dataset": ["unknown"]})
    if upload.state == Upload.State.FAILED:
        text = f"The data set {upload.pk} was refused: {upload.message}"
        raise Problem("bad_data", text, errors={"dataset": [upload.message]})
    if upload.state != Upload.State.SEALED:
        text = f"The data set {upload.pk} is {upload.state}; ask again in a moment."
        raise Problem(
            "dataset_not_ready", text, errors={"dataset": [text]}, retry_after=BUSY_FOR
        )
    return upload


def dataset_path(upload: Upload) -> Path:
    """Its file in the store; a gzipped one begins with 1f 8b, as the name has no suffix."""
    return store.object_path(upload.sha256)


def unpacked_path(upload: Upload) -> Path:
    """The directory beside an archive's object where its members stand."""
    return unpacked_beside(store.object_path(upload.sha256))


def unpacked_beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.files")


def delete(upload: Upload) -> None:
    """Remove the row, and its file if no other row names it.

    Raises Problem `conflict` while a live task uses it.
    """
    with transaction.atomic():
        row = Upload.objects.select_for_update().filter(pk=upload.pk).first()
        if row is None:
            return
        uses = Q(params__dataset=str(row.pk)) | Q(params__dataset=row.pk)
        uses |= Q(params__uploads__has_key=str(row.pk))
        task = Task.objects.live().filter(uses).first()
        if task is not None:
            text = f"Task {task.pk} uses it and is {task.state}."
            raise Problem("conflict", text)
        row.delete()
    forget(row.sha256)


def forget(sha256: str) -> None:
    """Remove the object and what was unpacked from it, unless a row names it."""
    if not sha256:
        return
    path, gone = store.object_path(sha256), []
    with transaction.atomic():
        lock_until_commit("objects")
        if Upload.objects.naming_objects().filter(sha256=sha256).exists():
            return
        for one in (path, unpacked_beside(path)):
            if one.exists():
                gone.append(one.replace(store.aside(".gone")))
    for one in gone:
        shutil.rmtree(one) if one.is_dir() else one.unlink()


def clean_filename(given: str) -> str:
    """The last part of the name that the sender gave. Raises Problem `invalid`."""
    name = given.replace("\\", "/").rpartition("/")[2].strip()
    text = ""
    if archives.ODD.search(given):
        text = "the file's name holds control characters"
    elif name in {"", ".", ".."}:
        text = "the file has no usable name"
    elif len(name) > LONGEST_NAME:
        text = f"the file's name is longer than {LONGEST_NAME} characters"
    if text:
        raise Problem("invalid", f"file: {text}.", errors={"file": [text]})
    return name


def _take(owner: Any, filename: str) -> Upload:
    most = settings.ENVIRONMENT.max_concurrent_uploads
    with transaction.atomic():
        lock_until_commit("uploads")
        moment = clock.now()
        if Upload.objects.receiving(moment).count() >= most:
            text = f"{most} uploads are being received, and no more at a time."
            raise Problem("uploads_busy", text, retry_after=BUSY_FOR)
        return Upload.objects.create(
            owner=owner,
            filename=filename,
            state=Upload.State.RECEIVING,
            created_at=moment,
            touched_at=moment,
        )


def _fail(upload: Upload, reason: str, message: str) -> None:
    # What was seen in a transaction that did not commit is not so.
    upload.state = Upload.State.RECEIVING
    upload.fail(reason, message)


def _give_back(upload: Upload) -> None:
    Upload.objects.filter(pk=upload.pk, state=Upload.State.RECEIVING).delete()
