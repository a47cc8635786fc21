"""Django's own command, which also keeps the installation's secret."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import migrate

from compass.installation import keep_secret


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        keep_secret()
        super().handle(*args, **options)
