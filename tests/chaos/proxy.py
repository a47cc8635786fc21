"""A TCP proxy that can be cut: what is behind it is then neither reached nor told so politely.

Or it is hushed: it takes all connections and passes nothing on.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading

CHUNK = 65_536


class Proxy:
    """Forwards `address` to `target`: a host and port, or the path of a unix socket."""

    def __init__(
        self, target: tuple[str, int] | str, address: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self._target = target
        self._server = socket.create_server(address)
        self.host, self.port = self._server.getsockname()[:2]
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._is_cut, self._is_closed = False, False
        self._speaks = threading.Event()
        self._speaks.set()
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def cut(self) -> None:
        """Refuse newcomers, and break off what is there."""
        self._is_cut = True
        self._break_off()

    def mend(self) -> None:
        self._is_cut = False

    def hush(self) -> None:
        self._speaks.clear()

    def speak(self) -> None:
        self._speaks.set()

    def close(self) -> None:
        self._is_closed = True
        self.speak()
        self._server.close()
        self._break_off()

    def _break_off(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for one in pair:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self._is_cut:
                client.close()
                continue
            try:
                upstream = self._connect()
            except OSError:
                client.close()
                continue
            pair = (client, upstream)
            with self._lock:
                self._pairs.add(pair)
            threading.Thread(target=self._pump, args=(pair,), daemon=True).start()

    def _connect(self) -> socket.socket:
        if isinstance(self._target, str):
            upstream = socket.socket(socket.AF_UNIX)
            upstream.connect(self._target)
            return upstream
        return socket.create_connection(self._target, 5)

    def _pump(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, upstream = pair
        with selectors.DefaultSelector() as ready, client, upstream:
            ready.register(client, selectors.EVENT_READ, upstream)
            ready.register(upstream, selectors.EVENT_READ, client)
            with contextlib.suppress(OSError):
                while not self._is_cut:
                    for key, _ in ready.select(1):
                        self._speaks.wait()
                        source = key.fileobj
                        assert isinstance(source, socket.socket)
                        chunk = source.recv(CHUNK)
                        if not chunk:
                            return
                        key.data.sendall(chunk)
        with self._lock:
            self._pairs.discard(pair)
