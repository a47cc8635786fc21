"""Start the one-machine stack and keep it alive."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection

from compass.env import unknown_names
from compass.lock import Taken
from compass.port import NoPort
from compass.stack import Stack


class Command(BaseCommand):
    help = "Start broker, web, workers and beat on this machine; Ctrl-C stops all."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        # Obeyed by manage.py, before the settings are read; here for --help.
        parser.add_argument("--data-dir", help="Where everything is kept.")
        parser.add_argument("--host", help="The address to listen at.")
        parser.add_argument("--port", type=int, help="If taken, the next free one.")

    def handle(self, *args: Any, **options: Any) -> None:
        environment = settings.ENVIRONMENT
        if options["host"]:
            environment = replace(environment, host=options["host"])
        if options["port"] is not None:
            if not 1 <= options["port"] <= 65535:
                raise CommandError("--port must be from 1 to 65535.", returncode=2)
            environment = replace(environment, port=options["port"])
        for name in unknown_names():
            self.say(f"{name} is set, but there is no such setting.")
        try:
            Stack(environment, say=self.say).run()
        except (Taken, NoPort) as error:
            raise CommandError(str(error)) from None
        except DatabaseError as error:
            raise CommandError(_of_database(error)) from None
        except OSError as error:
            what, why = error.filename or environment.data_dir, error.strerror or error
            raise CommandError(f"{what} cannot be used: {why}.") from None

    def say(self, line: str) -> None:
        try:
            self.stdout.write(f"{time.strftime('%H:%M:%S')} {line}")
            self.stdout.flush()
        except OSError:
            pass  # nobody reads any more; the stack goes on


def _of_database(error: DatabaseError) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if connection.vendor == "sqlite":
        name = connection.settings_dict["NAME"]
        return f"The database {name} cannot be used: {text}."
    return f"The database of COMPASS_DATABASE_URL cannot be used: {text}."
