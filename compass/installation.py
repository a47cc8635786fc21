"""What a new installation needs before its first request: tables, a user, a key."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections, transaction

from compass import env
from registry.models import ApiKey

FIRST_USER = "admin"


@dataclass(frozen=True)
class Credentials:
    """What is shown once, when the first user is made."""

    user: str
    password: str
    key: str


def prepare(data_dir: Path) -> Credentials | None:
    """Bring the tables up to date; make the first user and key if there is no user."""
    call_command("migrate", verbosity=0, interactive=False)
    try:
        return make_first_user(data_dir)
    finally:
        connections.close_all()


def keep_secret() -> None:
    """Keep this process's secret for all others, or take the one kept. Raises OSError."""
    if not os.environ.get("COMPASS_SECRET_KEY"):
        settings.DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.SECRET_KEY = env.keep_secret(settings.DATA_DIR, settings.SECRET_KEY)


def make_first_user(data_dir: Path) -> Credentials | None:
    """The first user, with a key of all scopes that stands alone in DATA_DIR/key."""
    with transaction.atomic():
        if User.objects.exists():
            return None
        password = secrets.token_urlsafe(12)
        user = User.objects.create_superuser(FIRST_USER, password=password)
        _, key = ApiKey.make(user, "first key")
        # Before the commit: a user without a key file could never be told apart.
        write_whole(data_dir / "key", key, 0o600)
    return Credentials(FIRST_USER, password, key)


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Write it whole or not at all, whoever reads meanwhile; `mode` says who may."""
    aside = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    with os.fdopen(os.open(aside, flags, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
