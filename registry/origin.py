"""What an exported archive says of itself: a comment in its header, as git's archives have one."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

from registry import plain
from registry.archives import Header
from registry.errors import Problem
from registry.models import ModelVersion

KEY = "comment"
LONGEST = 32 * 1024  # bytes


def comment(version: ModelVersion) -> str:
    """Address, digest and lineage of the version, as JSON."""
    told = {
        "compass": 1,
        "model": version.model.name,
        "version": version.number,
        "digest": version.digest,
        "created_at": version.created_at.isoformat(),
        "lineage": version.lineage,
    }
    text = json.dumps(told, sort_keys=True)
    if len(text) > LONGEST:
        del told["lineage"]
        text = json.dumps(told, sort_keys=True)
    return text


def read(path: Path) -> dict[str, Any]:
    """What the comment of a tar archive says; nothing if there is none of ours."""
    try:
        with tarfile.open(path, "r:*", tarinfo=Header) as archive:
            told = archive.pax_headers.get(KEY, "")
        found = plain.read_object(told.encode()) if told else {}
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, OSError, ValueError, Problem):
        return {}
    return found if found.get("compass") == 1 else {}
