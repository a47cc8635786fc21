"""A port for the web process, kept from other stacks until this one ends."""

from __future__ import annotations

import errno
import socket


class NoPort(Exception):
    """The address cannot be used at all, or every port is taken."""


class ReservedPort:
    """The first free port from the one asked for.

    It is held by a name in the abstract socket space, which is unique to the machine's
    network and is free again when its holder dies. The port itself is only tried: a socket
    that held it would share it with the web server, and so with any other one too.
    """

    def __init__(self, host: str, first: int, tries: int = 200) -> None:
        self.host = host
        family, self.address = _resolve(host)
        for port in range(first, min(first + tries, 65536)):
            self.guard = socket.socket(socket.AF_UNIX)
            try:
                self.guard.bind(f"\0compass-port-{port}")
                _try(family, self.address, port)
            except OSError as error:
                self.guard.close()
                if error.errno == errno.EADDRINUSE:
                    continue
                raise NoPort(
                    f"{host}:{port} cannot be used: {error.strerror}."
                ) from None
            self.number = port
            return
        raise NoPort(f"No free port from {first} on.")

    @property
    def url(self) -> str:
        """Where a client of this machine finds it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address, self.host)  # noqa: S104
        return (
            f"http://[{host}]:{self.number}"
            if ":" in host
            else f"http://{host}:{self.number}"
        )

    def release(self) -> None:
        self.guard.close()


def inner_port(port: int) -> int:
    """Where to look for a port for Django behind that one, away from those that people choose."""
    return 20_000 + port % 10_000


def _try(family: socket.AddressFamily, address: str, port: int) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as alone:
        # Connections of an earlier server that are still closing do not matter.
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind((address, port))


def _resolve(host: str) -> tuple[socket.AddressFamily, str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        raise NoPort(f"{host} is no address of this machine.") from None
    family, _, _, _, address = found[0]
    return family, str(address[0])
