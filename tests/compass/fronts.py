"""A front of this process, with Django behind it and a worker's line beside it."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from compass.front import Front
from inference import worker
from inference.cache import ModelCache
from inference.links import SERVICE
from registry.models import Node, Service

PREDICT = "/api/v1/inference/predict"
DJANGO = f"{PREDICT}?lane=django"  # an address with a query is none of the raw lane's


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: Any
    raw: bytes = b""

    @property
    def is_raw_lane(self) -> bool:
        return "server" not in self.headers

    def without_its_own(self) -> tuple[int, dict[str, str], Any]:
        """What does not differ from one request to the next."""
        own = ("server", "date", "content-length", "connection", "x-request-id")
        headers = {k: v for k, v in self.headers.items() if k not in own}
        body = self.body
        if isinstance(body, dict):
            body = {k: v for k, v in body.items() if k not in ("took", "request_id")}
        return self.status, headers, body


@dataclass
class Running:
    """The front in its thread; `port` is where it listens."""

    front: Any = None
    port: int = 0
    loop: Any = None
    stop: Any = None
    ready: threading.Event = field(default_factory=threading.Event)
    thread: Any = None

    def begin(self, behind: tuple[str, int], timeout: float = 60.0) -> Running:
        async def serve() -> None:
            self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()
            self.front = Front(behind, timeout=timeout)
            create = self.loop.create_server

            async def noting(*args: Any, **options: Any) -> Any:
                server = await create(*args, **options)
                self.port = server.sockets[0].getsockname()[1]
                self.ready.set()
                return server

            self.loop.create_server = noting
            await self.front.run("127.0.0.1", 0, self.stop)
            self.front.database.close()

        self.thread = threading.Thread(target=lambda: asyncio.run(serve()))
        self.thread.start()
        assert self.ready.wait(20)
        return self

    def end(self) -> None:
        if not self.thread.is_alive():
            return
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(20)
        assert not self.thread.is_alive()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)

    def ask(
        self,
        body: Any,
        headers: dict[str, str],
        path: str = PREDICT,
        link: http.client.HTTPConnection | None = None,
    ) -> Answer:
        one = link or self.connect()
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        one.request(
            "POST", path, content, {"Content-Type": "application/json"} | headers
        )
        response = one.getresponse()
        raw = response.read()
        if link is None:
            one.close()
        names = {name.lower(): value for name, value in response.getheaders()}
        found = json.loads(raw) if "json" in names.get("content-type", "") else raw
        return Answer(response.status, names, found, raw)


def line_of(
    node: Node, cache: ModelCache, until: list[Callable[[], None]]
) -> worker.Worker:
    """A worker whose line is open and registered; what ends it is put into `until`."""
    one = worker.Worker(node.name, cache)
    one._tuner.look = lambda: None  # type: ignore[method-assign]

    class Member:
        pass

    member: Any = Member()
    member.node = node
    one._membership = member
    one._open_line()
    until.append(one._close_line)
    assert Service.objects.filter(service_name=SERVICE).exists()
    return one
