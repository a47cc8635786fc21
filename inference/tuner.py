"""Measures new versions one after the other, in a process of its own with low priority."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings

from inference import tuning
from registry.models import ModelVersion

log = logging.getLogger(__name__)

NICENESS = "15"
FAILED: dict[str, Any] = {
    "name": "eager",
    "batch": None,
    "sha256": "",
    "candidates": [],
    "note": "The measuring ended early; `manage.py tune` does it again.",
}


def start(version: ModelVersion) -> subprocess.Popen[bytes]:
    """Begin to measure; exporting a network takes more memory than serving it."""
    manage = settings.BASE_DIR / "manage.py"
    command = [
        "nice",
        "-n",
        NICENESS,
        sys.executable,
        str(manage),
        "tune",
        str(version),
    ]
    variables: Mapping[str, str] = {
        **os.environ,
        "COMPASS_DATA_DIR": str(settings.DATA_DIR),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL)  # noqa: S603


class Tuner:
    """Looks at each beat whether a version waits to be measured; one at a time."""

    def __init__(self, start: Callable[[ModelVersion], Any] = start) -> None:
        self._start = start
        self._child: Any = None
        self._version: ModelVersion | None = None

    def look(self) -> None:
        if self._child is not None:
            if (code := self._child.poll()) is None:
                return
            self._child = None
            if code and self._version is not None:
                log.warning("Measuring %s ended with %s", self._version, code)
                rows = ModelVersion.objects.filter(pk=self._version.pk)
                rows.filter(engine__isnull=True).update(engine=FAILED, tuning_at=None)
        self._version = tuning.next_untuned()
        if self._version is not None:
            self._child = self._start(self._version)

    def stop(self) -> None:
        """Give the version back; another worker may begin with it."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()
            rows = ModelVersion.objects.filter(engine__isnull=True)
            assert self._version is not None
            rows.filter(pk=self._version.pk).update(tuning_at=None)
