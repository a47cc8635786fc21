"""A script's text as it was sent, and what of it cannot run."""

from __future__ import annotations

import re

from registry.errors import Problem

MOST = 16 * 1024**2  # bytes: a million lines
SHELLS = ("sh", "bash", "dash")
SHEBANG = re.compile(r"#![ \t]*(\S+)(?:[ \t]+(\S+))?")
OPTIONS = re.compile(rb"#![ \t]*(?!\S*/env[ \t])\S+[ \t]+([^\n]+)")


def checked(text: str) -> bytes:
    """The text as it will run: without a byte order mark, its lines ended by LF alone.

    Raises Problem `too_large`, or `invalid` for an empty one or another interpreter's.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    content = text.encode()
    if len(content) > MOST:
        raise Problem(
            "too_large",
            f"A script may have {MOST:,} bytes, not {len(content):,};"
            " upload what is data, and name it in files.",
        )
    if not text.strip():
        raise _wrong("must not be empty")
    if match := SHEBANG.match(text):
        path, word = match[1], match[2] or ""
        program = word if path.endswith("/env") else path
        if program.rpartition("/")[2] not in SHELLS:
            raise _wrong(
                f"begins with #!{program[:60]}, but runs in /bin/bash; begin that program"
                " from a script of bash"
            )
    return content


def options(content: bytes) -> list[str]:
    """What its first line says to the shell, as `-e` in `#!/bin/bash -e`."""
    match = OPTIONS.match(content)
    return match[1].decode("utf-8", "replace").split() if match else []


def _wrong(text: str) -> Problem:
    return Problem("invalid", f"The script {text}.", errors={"script": [text]})
