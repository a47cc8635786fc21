"""The process that owns the port: predictions by a raw lane, all else to Django behind it."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import resource
import signal
import time
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from compass.leaving import leave
from compass.nearness import is_near, own_address
from compass.room import Room
from compass.tunnel import Tunnel
from compass.turns import Turns
from compass.visitor import Visitor
from registry.errors import Problem

if TYPE_CHECKING:
    from compass.rates import Rule

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # seconds between looks at requests that do not get whole
BACKLOG = 1024  # connections that wait to be taken
CONNECT_TRIES = 100  # to Django's server, while it starts again
CONNECT_PAUSE = 0.1  # seconds
RARELY = 50_000  # objects made between two collections of the youngest garbage


class Front:
    """What the connections of this process share. `behind` is where Django's server listens."""

    def __init__(
        self, behind: tuple[str, int], *, timeout: float, rules: Sequence[Rule] = ()
    ) -> None:
        from django.conf import settings

        from compass.lookups import Database
        from compass.throttles import Throttles
        from inference.lane import Lane
        from inference.traffic import RAW, REFUSED, Counter

        self.behind, self.timeout = behind, timeout
        self.visitors: set[Visitor] = set()
        self.turns, self.room = Turns(), Room()
        self.near = settings.ENVIRONMENT.metrics_allow
        self.throttles = Throttles(rules) if rules else None
        self.database = Database()
        self.lane = Lane(self.database, timeout=timeout)
        self.counter, self.refused = Counter(RAW), Counter(REFUSED)
        self.is_leaving = False
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, host: str, port: int, stop: asyncio.Event) -> None:
        """Serve until the event is set, then answer what was asked."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Visitor(self), host, port, backlog=BACKLOG, reuse_address=True
        )
        self.lane.begin()
        self.spawn(self._keep_looking())
        await stop.wait()
        self.is_leaving = True
        await leave(self, server)
        self.lane.close()
        self.database.write([self.counter, self.refused], is_last=True)
        for task in list(self._tasks):
            task.cancel()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def open_tunnel(self, tunnel: Tunnel) -> None:
        self.spawn(self._connect(tunnel))

    async def _connect(self, tunnel: Tunnel) -> None:
        loop = asyncio.get_running_loop()
        address = own_address(is_near=is_near(tunnel.visitor.address, self.near))
        for _ in range(CONNECT_TRIES):
            if tunnel.visitor.transport is None:
                return
            try:
                await loop.create_connection(
                    lambda: tunnel, *self.behind, local_addr=(address, 0)
                )
            except OSError:
                await asyncio.sleep(CONNECT_PAUSE)
            else:
                return
        text = "Django's server does not answer."
        tunnel.visitor.refuse(Problem("busy", text, retry_after=1))

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = time.monotonic()
            self.turns.look(now)
            for visitor in list(self.visitors):
                try:
                    visitor.look(now)
                except Exception:  # the others are looked at nevertheless
                    log.exception("A connection could not be looked at")
            self.database.write([self.counter, self.refused])


def main() -> None:
    """The command: `compass.front --host H --port P --behind PORT`."""
    import django
    import uvloop

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "compass.settings")
    django.setup()
    from django.conf import settings

    arguments = argparse.ArgumentParser()
    arguments.add_argument("--host", required=True)
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--behind", type=int, required=True)
    options = arguments.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        timeout = float(settings.ENVIRONMENT.predict_timeout)
        front = Front(
            ("127.0.0.1", options.behind),
            timeout=timeout,
            rules=settings.ENVIRONMENT.throttles,
        )
        gc.collect()
        gc.freeze()
        gc.set_threshold(RARELY, 20, 20)
        await front.run(options.host, options.port, stop)

    uvloop.run(serve())


if __name__ == "__main__":
    main()
