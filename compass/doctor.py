"""What is well with this installation and what is not, each with a hint."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings
from django.core.checks import run_checks
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from compass import health
from compass.lock import holder_of
from registry import devices
from registry.management.output import has_database

START = "Start the stack: python manage.py up"
HINTS = {
    "database": "Look at COMPASS_DATABASE_URL; is the server up?",
    "broker": START,
    "disk": "Free some space, or move COMPASS_DATA_DIR.",
    "beat": START,
}


@dataclass(frozen=True)
class Finding:
    """One line of the report; `ok` is None for what is neither well nor ill."""

    name: str
    ok: bool | None
    detail: str
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> list[Finding]:
    """Everything, in the order in which to mend it."""
    checks: list[Callable[[], Finding]] = [
        _python,
        _settings,
        _data_dir,
        _stack,
        _migrations,
        _key,
        _gpus,
    ]
    return [*(_looked(check) for check in checks), *_parts()]


def _looked(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:
        name = check.__name__.strip("_").replace("_", " ")
        return Finding(name, False, f"{type(error).__name__}: {error}")


def _python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    ok = sys.version_info[:2] == (3, 11) and sys.platform == "linux"
    return Finding("python", ok, text, "Compass needs Python 3.11 on Linux.")


def _settings() -> Finding:
    messages = [message for message in run_checks() if not message.is_silenced()]
    if not messages:
        return Finding("settings", True, "all known and sound")
    text = " ".join(str(message.msg) for message in messages)
    hints = " ".join(str(message.hint) for message in messages if message.hint)
    return Finding("settings", False, text, hints)


def _data_dir() -> Finding:
    path = settings.DATA_DIR
    ok = os.access(path, os.R_OK | os.W_OK | os.X_OK)
    detail = f"{path} is {'' if ok else 'not '}writable"
    return Finding("data directory", ok, detail, f"chown it to user {os.getuid()}.")


def _stack() -> Finding:
    holder = holder_of(settings.DATA_DIR)
    if holder:
        return Finding("stack", True, f"runs as process {holder}")
    if not settings.ENVIRONMENT.embedded_broker:
        return Finding("stack", None, "not on this machine; the broker is external")
    return Finding("stack", False, "does not run", START)


def _migrations() -> Finding:
    if not has_database():
        return Finding("migrations", False, "there is no database yet", START)
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        names = ", ".join(f"{one.app_label}.{one.name}" for one, _ in missing[:5])
        hint = "python manage.py migrate, or start the stack."
        return Finding("migrations", False, f"{len(missing)} missing: {names}", hint)
    return Finding("migrations", True, "all applied")


def _key() -> Finding:
    path = settings.DATA_DIR / "key"
    if not path.exists():
        text, hint = "no key file", "python manage.py createkey admin"
        return Finding("key", None, text, hint)
    mode = path.stat().st_mode & 0o777
    return Finding("key", mode == 0o600, f"mode {mode:04o}", f"chmod 600 {path}")


def _gpus() -> Finding:
    found = devices.gpus()
    names = ", ".join(gpu["name"] for gpu in found)
    return Finding("gpu", True if found else None, names or "none; that is fine")


def _parts() -> list[Finding]:
    if not has_database():
        return []
    try:
        parts = health.examine()
    except Exception as error:
        return [Finding("parts", False, f"{type(error).__name__}: {error}")]
    return [
        Finding(name, part["ok"], part["detail"], HINTS.get(name, START))
        for name, part in parts.items()
    ]
