"""Make a key for a user and show it once."""

from __future__ import annotations

import datetime
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User

from registry import clock
from registry.management.output import Command as Base
from registry.management.output import Failed, WrongUse
from registry.models import ApiKey
from registry.models.key import SCOPES


class Command(Base):
    help = "Make a key for a user. It is shown once and cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user")
        parser.add_argument("--name", default="made by createkey")
        parser.add_argument(
            "--scopes",
            help=f"Some of {','.join(SCOPES)}; default all, admin for staff alone.",
        )
        parser.add_argument("--expires-days", type=float, help="Default: never.")
        parser.add_argument("--json", action="store_true", help="For programs.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        allowed = [one for one in SCOPES if one != "admin" or (user and user.is_staff)]
        asked = options["scopes"]
        if asked is None:
            asked = ",".join(allowed)
        scopes = [one.strip() for one in asked.split(",") if one.strip()]
        if unknown := set(scopes) - set(SCOPES):
            text = f"No such scope: {', '.join(sorted(unknown))}."
            raise WrongUse(f"{text} There are {', '.join(SCOPES)}.")
        if not scopes or not 0 < len(options["name"]) <= 100:
            raise WrongUse("A key needs a scope and a name of at most 100 letters.")
        days = options["expires_days"]
        if days is not None and not 0 < days <= 36_500:
            raise WrongUse("--expires-days must be above 0, at most 36500.")
        if user is None:
            raise Failed(f"There is no user {options['user']!r}.")
        if not set(scopes) <= set(allowed):
            text = f"The scope admin is for staff, and {user.username} is none."
            raise WrongUse(text)
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
            self.print_json(shown)
        else:
            self.stdout.write(key)
