"""A port for the web process, kept from other stacks until this one ends."""

from __future__ import annotations

import errno
import socket


class NoPort(Exception):
    """The address cannot be used at all, or every port is taken."""


class ReservedPort:
    """The first free port from the one asked for.

    The socket that holds it is bound but never listens. It is shared only after it was
    bound alone, so that two stacks that look at once cannot both get it, while the web
    server, which binds with SO_REUSEPORT, can.
    """

    def __init__(self, host: str, first: int, tries: int = 200) -> None:
        family, address = _resolve(host)
        for port in range(first, min(first + tries, 65536)):
            self.socket = socket.socket(family, socket.SOCK_STREAM)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self.socket.bind((address, port))
            except PermissionError:
                self.socket.close()
                raise NoPort(
                    f"Port {port} needs more rights; ask for another."
                ) from None
            except OSError as error:
                self.socket.close()
                if error.errno != errno.EADDRINUSE:
                    raise NoPort(f"{host} cannot be used: {error.strerror}.") from None
                continue
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self.host, self.address, self.number = host, address, port
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
        self.socket.close()


def _resolve(host: str) -> tuple[socket.AddressFamily, str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        raise NoPort(f"{host} is no address of this machine.") from None
    family, _, _, _, address = found[0]
    return family, str(address[0])
