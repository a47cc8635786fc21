"""Django system checks of the installation's settings."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning, register

from compass.env import unknown_names

# Times what the machine has; below that it may be meant.
FAR_MORE_CPUS, FAR_MORE_MEMORY = 16, 4
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@register
def check_names(app_configs: Any, **_: Any) -> list[CheckMessage]:
    return [
        Warning(
            f"{name} is set, but there is no such setting.",
            hint="docs/settings.md lists them all.",
            id="compass.W001",
        )
        for name in unknown_names()
    ]


@register
def check_debug(app_configs: Any, **_: Any) -> list[CheckMessage]:
    if settings.DEBUG and settings.ENVIRONMENT.host not in LOOPBACK:
        text = "COMPASS_DEBUG shows the code and settings to whoever meets an error."
        hint = "Set it on loopback alone."
        return [Warning(text, hint=hint, id="compass.W002")]
    return []


@register
def check_key_file(app_configs: Any, **_: Any) -> list[CheckMessage]:
    path = settings.DATA_DIR / "key"
    if path.exists() and path.stat().st_mode & 0o077:
        hint = f"chmod 600 {path}"
        text = f"Others can read {path}, which holds a key of all scopes."
        return [Warning(text, hint=hint, id="compass.W003")]
    return []


@register
def check_capacity(app_configs: Any, **_: Any) -> list[CheckMessage]:
    environment = settings.ENVIRONMENT
    found: list[CheckMessage] = []
    cpus = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name, given, has, most in (
        ("COMPASS_CPUS", environment.cpus, cpus, FAR_MORE_CPUS),
        ("COMPASS_MEMORY", environment.memory, memory, FAR_MORE_MEMORY),
    ):
        if given > most * has:
            text = f"{name} is {given}; this machine has {has}."
            hint = "Tasks are placed by it; is there a zero too many?"
            found.append(Warning(text, hint=hint, id="compass.W004"))
    return found
