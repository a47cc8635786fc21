#!/usr/bin/env python
"""Compass's command line."""

from __future__ import annotations

import os
import sys
import tempfile


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "compass.settings")
    choose_data_dir(sys.argv)
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("The environment is missing; run `make install` first.")
    execute_from_command_line(sys.argv)


def choose_data_dir(arguments: list[str]) -> None:
    """Obey and remove --data-dir: any command takes it, and the settings come first.

    The demo leaves no trace: unless told otherwise it gets a directory of its own.
    """
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--data-dir":
            value = value if equals else "".join(arguments[number + 1 : number + 2])
            if value and not value.startswith("-"):
                os.environ["COMPASS_DATA_DIR"] = value
                del arguments[number : number + (1 if equals else 2)]
                return
    asks = {"--serve", "--help", "-h"} & set(arguments)
    if arguments[1:2] == ["demo"] and not asks:
        os.environ["COMPASS_DATA_DIR"] = tempfile.mkdtemp(prefix="compass-demo-")


if __name__ == "__main__":
    main()
