"""Make a key for a user and show it once."""

from __future__ import annotations

import datetime
import json
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from registry import clock
from registry.models import ApiKey
from registry.models.key import SCOPES


class Command(BaseCommand):
    help = "Make a key for a user. It is shown once and cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user")
        parser.add_argument("--name", default="made by createkey")
        parser.add_argument(
            "--scopes",
            default=",".join(SCOPES),
            help=f"Some of {','.join(SCOPES)}; default all.",
        )
        parser.add_argument("--expires-days", type=float, help="Default: never.")
        parser.add_argument("--json", action="store_true", help="For programs.")

    def handle(self, *args: Any, **options: Any) -> None:
        scopes = [one.strip() for one in options["scopes"].split(",") if one.strip()]
        if unknown := set(scopes) - set(SCOPES):
            text = f"No such scope: {', '.join(sorted(unknown))}."
            raise CommandError(f"{text} There are {', '.join(SCOPES)}.", returncode=2)
        if not scopes or not 0 < len(options["name"]) <= 100:
            raise CommandError(
                "A key needs a scope and a name of at most 100 letters.", returncode=2
            )
        days = options["expires_days"]
        if days is not None and not 0 < days <= 36_500:
            raise CommandError(
                "--expires-days must be above 0, at most 36500.", returncode=2
            )
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']!r}.")
        expires = clock.now() + datetime.timedelta(days=days) if days else None
        row, key = ApiKey.make(user, options["name"], scopes, expires_at=expires)
        if options["json"]:
            shown = {
                "key": key,
                "prefix": row.prefix,
                "user": user.username,
                "name": row.name,
                "scopes": row.scopes,
                "expires_at": expires and expires.isoformat(),
            }
            self.stdout.write(json.dumps(shown))
        else:
            self.stdout.write(key)
