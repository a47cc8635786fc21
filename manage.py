#!/usr/bin/env python
"""Compass's command line."""

from __future__ import annotations

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "compass.settings")
    take_data_dir(sys.argv)
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("The environment is missing; run `make install` first.")
    execute_from_command_line(sys.argv)


def take_data_dir(arguments: list[str]) -> None:
    """Obey --data-dir of any command; the settings are read before commands parse it."""
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--data-dir":
            rest = arguments[number + 1 : number + 2]
            value = value if equals else "".join(rest)
            if value and not value.startswith("-"):
                os.environ["COMPASS_DATA_DIR"] = value


if __name__ == "__main__":
    main()
