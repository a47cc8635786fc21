"""One turn of one server: requests a second, their times, what it cost, and what went wrong."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.report import percentile
from bench.serving import models
from bench.serving.catalog import Peer
from bench.serving.load import Load
from bench.serving.server import Server

ITEMS = 32
WARM = 1.0  # seconds at most before a turn
GOOD = 15  # clients beside one that asks what cannot be answered


@dataclass(frozen=True)
class Figures:
    """Times and processor time a request in ms; rate in right answers a second."""

    rate: float
    p50: float
    p99: float
    cpu: float
    wrong: int = 0  # answered by another number than bare torch's
    errors: int = 0  # answered by no number, or not at all
    example: str = ""  # of what went wrong


class Contender:
    """A running server and what it is asked; it stands still between its turns."""

    def __init__(self, peer: Peer, server: Server, model: str) -> None:
        some = models.items(model, ITEMS)
        self.peer, self.server, self.path = peer, server, peer.address(model)
        self.bodies = peer.bodies(model, some)
        (self.spoilt,) = peer.bodies(model, [models.spoilt(model)])
        self.wanted = None if peer.is_empty else models.wanted(model, some)

    @property
    def name(self) -> str:
        return self.server.name

    def warm(self, clients: int, seconds: float) -> None:
        """Wake it and ask it until it is at its speed. Raises NotMeasured if it is dead."""
        self.server.resume()
        self.server.wait(self.path, self.bodies[0])
        self._load(seconds).run(clients)

    def measure(self, clients: int, seconds: float) -> Figures:
        """Figures of one turn, after a warm-up that is not counted. Raises NotMeasured."""
        self.warm(clients, min(WARM, seconds / 2))
        try:
            load, before = self._load(seconds), self.server.cost().cpu
            spent = load.run(clients)
            return figures(load, spent, self.server.cost().cpu - before)
        finally:
            self.server.pause()

    def beside_a_bad_one(self, seconds: float) -> tuple[int, int, str]:
        """Good requests, those of them that failed while one client asked bad ones, an example."""
        self.warm(GOOD + 1, min(WARM, seconds / 2))
        try:
            load = self._load(seconds, self.spoilt)
            load.run(GOOD + 1)
            failed = load.faults.total()
            return len(load.times) + failed, failed, example_of(load)
        finally:
            self.server.pause()

    def _load(self, seconds: float, bad: bytes | None = None) -> Load:
        return Load(
            self.server.port, self.path, self.server.headers, self.bodies, self.wanted,
            seconds, self.peer.read, bad,
        )  # fmt: skip


def figures(load: Load, spent: float, cpu: float) -> Figures:
    """What a load found in so many seconds, of which the server computed so many."""
    times = load.times or [float("nan")]
    return Figures(
        rate=len(load.times) / spent,
        p50=1000 * percentile(times, 0.5),
        p99=1000 * percentile(times, 0.99),
        cpu=1000 * cpu / max(1, load.count),
        wrong=load.faults["wrong"],
        errors=load.faults["error"],
        example=example_of(load),
    )


def example_of(load: Load) -> str:
    return load.examples.get("wrong") or load.examples.get("error", "")


def middle(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure over the rounds; faults are added up."""
    names = ("rate", "p50", "p99", "cpu")
    found: dict[str, Any] = {
        name: statistics.median(getattr(one, name) for one in rounds) for name in names
    }
    return Figures(
        **found,
        wrong=sum(one.wrong for one in rounds),
        errors=sum(one.errors for one in rounds),
        example=next((one.example for one in rounds if one.example), ""),
    )


def as_json(rounds: Sequence[Figures]) -> dict[str, Any]:
    return {**_known(middle(rounds)), "rounds": [_known(one) for one in rounds]}


def _known(one: Figures) -> dict[str, Any]:
    """JSON has no NaN."""
    return {k: None if v != v else v for k, v in asdict(one).items()}
