from __future__ import annotations

from django.apps import AppConfig


class CompassConfig(AppConfig):
    name = "compass"
    verbose_name = "Compass"

    def ready(self) -> None:
        from compass import checks, postgres  # noqa: F401
