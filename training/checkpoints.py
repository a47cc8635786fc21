"""Checkpoints: the last state of a training, and the one before it, each whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
FORMAT = 1
SAVE_EVERY = 2.0  # seconds between two checkpoints, at least
SAVE_SHARE = 0.02  # of the time may go into checkpoints


class Damaged(Exception):
    """A checkpoint file is not what was written."""


class Checkpoints:
    """The checkpoints of one training in one directory.

    A file is the sha256 of its payload in hexadecimal, a line end, and what `torch.save` makes.
    It is written aside, fsynced and renamed; `fingerprint` names the training it belongs to, and
    a checkpoint of another one is not used. `note` gets a sentence whenever a file is passed over.
    """

    def __init__(
        self,
        directory: Path,
        fingerprint: str,
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory, self.fingerprint, self.note = directory, fingerprint, note
        self.clock, self.saved, self.save_every = clock, clock(), SAVE_EVERY

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next one; those that take long are rarer."""
        return self.clock() - self.saved > self.save_every

    def save(self, state: dict[str, Any]) -> None:
        """Write `state` (tensors, numbers, text and containers of them) as the last checkpoint."""
        began = self.clock()
        buffer = io.BytesIO()
        content = {"format": FORMAT, "fingerprint": self.fingerprint, "state": state}
        torch.save(content, buffer)
        payload = buffer.getvalue()
        self.directory.mkdir(parents=True, exist_ok=True)
        # A name of its own: a job that was fenced off may still be writing here.
        aside = self.directory / f"{LAST}.{os.getpid()}-{secrets.token_hex(4)}.part"
        try:
            with aside.open("wb") as file:
                file.write(hashlib.sha256(payload).hexdigest().encode() + b"\n")
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            last = self.directory / LAST
            with contextlib.suppress(FileNotFoundError):
                last.replace(self.directory / PREVIOUS)
            aside.replace(last)
        except OSError:  # a full disk is not to be filled further
            aside.unlink(missing_ok=True)
            raise
        fsync_directory(self.directory)
        self.saved = self.clock()
        self.save_every = max(SAVE_EVERY, (self.saved - began) / SAVE_SHARE)

    def load(self, device: str = "cpu") -> dict[str, Any] | None:
        """The newest whole state of this training, or None if there is none."""
        for part in self.directory.glob("*.part"):
            part.unlink(missing_ok=True)
        for name in (LAST, PREVIOUS):
            path = self.directory / name
            try:
                content = _read(path, device)
            except FileNotFoundError:
                continue
            except Damaged as error:
                self.note(f"The checkpoint {name} is damaged ({error}); passed over.")
                # Or the next one would make it the previous, in the place of a whole one.
                with contextlib.suppress(OSError):
                    path.unlink()
                continue
            if content["fingerprint"] != self.fingerprint:
                self.note(
                    f"The checkpoint {name} belongs to other parameters or data; passed over."
                )
                continue
            state: dict[str, Any] = content["state"]
            return state
        return None


def _read(path: Path, device: str) -> dict[str, Any]:
    try:
        digest, _, payload = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(f"it cannot be read: {error.strerror}") from error
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise Damaged("its sha256 differs")
    try:
        content: dict[str, Any] = torch.load(
            io.BytesIO(payload), map_location=device, weights_only=True
        )
        written = content["format"]
    except (pickle.UnpicklingError, EOFError, LookupError, TypeError) as error:
        raise Damaged("it is of another kind") from error
    if written != FORMAT:
        raise Damaged(f"its format is {written!r}, not {FORMAT}")
    return content


def fsync_directory(directory: Path) -> None:
    """Make renames in `directory` outlive a power cut."""
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
