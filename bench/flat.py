"""A million requests against one stack: no process of it may grow.

    python -m bench.flat [--requests 1000000] [--clients 8] [--samples 60] [--series]

Few clients on kept connections ask both models by all their addresses, one request at a time; among them are bad
requests, unknown keys, and clients that leave before the answer. Memory is looked at in between; what counts is a
line fitted through the looks after the first tenth, as a share of the size: budget 5 %, beyond twice its own error.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import uvloop

from bench.idle import label
from bench.report import Report
from bench.serving import models
from bench.serving.server import Server
from bench.serving.starting import PREDICT, compass

GROWTH = 5.0  # per cent from the first tenth to the end
LEAST = 2.0  # MB; a smaller rise is none
MORE = 8.0  # descriptors and threads
DTA_EVERY, BAD_EVERY, LEAVE_EVERY, NAMED_EVERY = 60, 150, 400, 10  # requests
KINDS = {"resident": "MB", "proportional": "MB", "descriptors": "", "threads": ""}


@dataclass(frozen=True)
class Ask:
    raw: bytes
    status: bytes


class Questions:
    """Requests in rotation; every so many is another kind."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers
        self._tiny = self._good("tiny", ("tiny", "tiny:1", "tiny@latest"), 1000)
        self._dta = self._good("dta", ("dta", "dta:1"), 200)
        self._bad = itertools.cycle(self._all_bad())
        self.count = 0

    def next(self) -> Ask:
        self.count += 1
        if self.count % BAD_EVERY == 0:
            return next(self._bad)
        if self.count % DTA_EVERY == 0:
            return self._dta[self.count // DTA_EVERY % len(self._dta)]
        ask = self._tiny[self.count % len(self._tiny)]
        if self.count % NAMED_EVERY:
            return ask
        name = b"X-Request-ID: flat-%d\r\nHost:" % self.count
        return Ask(ask.raw.replace(b"Host:", name, 1), ask.status)

    def _good(self, name: str, addresses: Sequence[str], count: int) -> list[Ask]:
        return [
            self._ask({"model": address, "inputs": [item]})
            for address, item in zip(
                itertools.cycle(addresses), models.items(name, count), strict=False
            )
        ]

    def _all_bad(self) -> list[Ask]:
        good = {"model": "tiny", "inputs": models.items("tiny", 1)}
        huge = {"model": "tiny", "inputs": [{"x": [1e30] * 5000}]}
        return [
            self._ask(good | {"inputs": [{"x": ["a"]}, 3, None]}),
            self._ask(good | {"model": "nobody"}, b"404"),
            self._ask(good | {"model": "tiny@nobody"}, b"404"),
            self._ask(good | {"model": ["nobody", "tiny"]}),
            self._ask(good | {"inputs": []}, b"422"),
            self._ask(huge),
            self._ask(b'{"model": "tiny", "inputs": [', b"400"),
            self._ask(good, b"401", {"Authorization": "Bearer cmp_none"}),
            self._ask(good, b"415", self._headers | {"Content-Type": "text/plain"}),
        ]

    def _ask(
        self,
        body: object,
        status: bytes = b"200",
        headers: dict[str, str] | None = None,
    ) -> Ask:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Content-Type": "application/json", **(headers or self._headers)}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}Content-Length: {len(content)}\r\n\r\n"
        return Ask(head.encode() + content, status)


class Load:
    """So many requests by so many clients, each waiting for its answer before the next."""

    def __init__(self, port: int, questions: Questions) -> None:
        self.port, self.questions = port, questions
        self.left, self.errors = 0, list[str]()

    def run(self, requests: int, clients: int) -> None:
        self.left = requests
        uvloop.run(self._run(clients))

    async def _run(self, clients: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client())

    async def _client(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while self.left > 0:
            self.left -= 1
            ask = self.questions.next()
            writer.write(ask.raw)
            is_leaving = self.questions.count % LEAVE_EVERY == 0
            is_open = False
            if not is_leaving:
                try:
                    is_open = await self._answer(reader, ask)
                except (OSError, EOFError, TimeoutError) as error:
                    self.errors.append(f"no answer: {error!r}")
            if not is_open:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, ask: Ask) -> bool:
        """Whether the connection stays open."""
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).lower()
        at = head.index(b"content-length:") + 15
        body = await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
        if head[9:12] != ask.status:
            self.errors.append(f"{head[9:12]!r} instead of {ask.status!r}: {body!r}")
        return b"connection: close" not in head


class Watch:
    """The processes of the stack, and what each took at each look."""

    def __init__(self, server: Server) -> None:
        top = psutil.Process(server.process.pid)
        self.processes = {
            f"{label(one)} {one.pid}": one
            for one in [top, *top.children(recursive=True)]
        }
        self.seen: dict[tuple[str, str], list[float]] = defaultdict(list)

    def look(self) -> None:
        """Raises psutil.NoSuchProcess if one has ended."""
        for name, one in self.processes.items():
            memory = one.memory_full_info()
            figures = (
                memory.rss / 1e6,
                memory.pss / 1e6,
                one.num_fds(),
                one.num_threads(),
            )
            for kind, figure in zip(KINDS, figures, strict=True):
                self.seen[name, kind].append(float(figure))


def growth(values: Sequence[float]) -> tuple[float, float]:
    """How far a line through them rises from the first to the last, and the error of that."""
    moments = range(len(values))
    slope, start = statistics.linear_regression(moments, values)
    rest = [
        value - start - slope * at for at, value in zip(moments, values, strict=True)
    ]
    spread = sum((at - statistics.mean(moments)) ** 2 for at in moments)
    error = (sum(one**2 for one in rest) / (len(values) - 2) / spread) ** 0.5
    return slope * (len(values) - 1), error * (len(values) - 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--series", action="store_true", help="print every look")
    options = parser.parse_args()
    report = Report("flat")
    with compass() as server:
        load = Load(server.port, Questions(server.headers))
        step, began = options.requests // options.samples, time.monotonic()
        load.run(step, options.clients)
        watch = Watch(server)
        for number in range(options.samples - 1):
            load.run(step, options.clients)
            watch.look()
            if number % 10 == 0:
                rate = load.questions.count / (time.monotonic() - began)
                print(
                    f"  {load.questions.count} requests, {rate:.0f} a second",
                    flush=True,
                )
        report.errors = load.errors
        add(report, watch, warm=options.samples // 10, is_told=options.series)
    return report.finish()


def add(report: Report, watch: Watch, warm: int, *, is_told: bool) -> None:
    for (name, kind), values in watch.seen.items():
        after = values[warm:]
        size, (rise, error) = statistics.mean(after), growth(after)
        beyond = max(0.0, rise - 2 * error)
        if KINDS[kind]:
            report.add(f"{name}: {kind}", size, KINDS[kind])
            share = 100 * beyond / size if beyond > LEAST else 0.0
            report.add(f"{name}: {kind}, growth", share, "%", GROWTH)
            if share > GROWTH or is_told:
                print(f"  {name}: {' '.join(f'{one:.0f}' for one in values)}")
        else:
            report.add(f"{name}: {kind}, more", beyond, "", MORE)


if __name__ == "__main__":
    sys.exit(main())
