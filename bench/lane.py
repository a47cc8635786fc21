"""Processor time of the front for one prediction by the raw lane, without sockets and without a model.

`python -m bench.lane [--clients 64] [--requests 40000] [--rounds 7]` prints microseconds a request,
the least of the rounds first, for it is the one that others disturbed least.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

BODY = {"model": "tiny", "inputs": [{"x": [n / 7 for n in range(128)]}]}
OUTPUTS = b'[{"y":0.123456789}]'


class Database:
    """Every key may predict, and every address means one version."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def may_predict(self, digest: str) -> bool:
        return True

    def known(self, address: str) -> Any:
        return self.found


class Echo:
    """A worker's transport: answers each batch in the loop's next turn."""

    def __init__(self, peer: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.peer, self.loop = peer, loop

    def write(self, data: bytes) -> None:
        from inference import frames

        _, _, number = frames.HEAD.unpack_from(data)
        _, _, lists = frames.read_ask(data[frames.HEAD.size :])
        reply = frames.reply(number, 0.001, [(0, OUTPUTS)] * len(lists))
        self.loop.call_soon(self.peer.data_received, reply)


class Client:
    """A visitor's transport: at each answer, sends the same request again."""

    def __init__(self, send: Callable[[], None]) -> None:
        self.send, self.count = send, 0

    def get_extra_info(self, name: str) -> None:
        pass

    def write(self, data: bytes) -> None:
        assert data.startswith(b"HTTP/1.1 200"), data
        self.send()


async def measure(clients: int, requests: int) -> float:
    """Seconds of processor time a request."""
    from compass.room import Room
    from compass.visitor import Visitor
    from inference.lane import Lane
    from inference.links import Place
    from inference.peer import Peer
    from inference.routes import Found
    from inference.traffic import RAW, Counter

    loop = asyncio.get_running_loop()
    database = Database(Found(1, "tiny", 1, 4))
    lane = Lane(database, timeout=30.0)  # type: ignore[arg-type]
    place = Place("one", "1", "", "", 0)
    peer = Peer(place, {"versions": [1]}, lambda: None)
    peer.connection_made(Echo(peer, loop))  # type: ignore[arg-type]
    lane._crew.peers[place] = peer
    front: Any = SimpleNamespace(
        database=database, lane=lane, timeout=30.0, visitors=set(), counter=Counter(RAW),
        is_leaving=False, room=Room(), throttles=None,
    )  # fmt: skip
    content = json.dumps(BODY).encode()
    raw = (
        b"POST /api/v1/inference/predict HTTP/1.1\r\nHost: localhost\r\n"
        b"Authorization: Bearer cmp_key\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
    )
    left, done = requests, loop.create_future()

    def client() -> Callable[[], None]:
        def send() -> None:
            nonlocal left
            left -= 1
            if left > 0:
                loop.call_soon(visitor.data_received, raw)
            elif not done.done():
                done.set_result(None)

        visitor = Visitor(front)
        visitor.connection_made(Client(send))  # type: ignore[arg-type]
        return send

    senders = [client() for _ in range(clients)]
    began = time.process_time()
    for send in senders:
        send()
    await done
    return (time.process_time() - began) / requests


def main() -> None:
    import django
    import uvloop

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--clients", type=int, default=64)
    arguments.add_argument("--requests", type=int, default=40_000)
    arguments.add_argument("--rounds", type=int, default=7)
    options = arguments.parse_args()
    found = sorted(
        uvloop.run(measure(options.clients, options.requests)) * 1e6
        for _ in range(options.rounds)
    )
    print(" ".join(f"{one:.2f}" for one in found), "us a request")


if __name__ == "__main__":
    main()
