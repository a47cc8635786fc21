"""Which worker Django's lane asks: who holds the model, then who has the least to do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from inference import frames, gateway, links
from inference.known import Known
from inference.line import Line
from inference.links import Place
from inference.routes import Found
from registry.errors import Problem
from registry.models import Node, Service

pytestmark = pytest.mark.django_db
ONE, TWO, GONE = 1, 2, 3
MODEL = Found(ONE, "m", 1, 0)
BEAT = datetime(2026, 1, 1, tzinfo=UTC)


class Worker:
    """One that loads what it is asked for, and computes while its gate is shut."""

    def __init__(self, name: str, path: Path) -> None:
        self.held: set[int] = set()
        self.asked: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.line = Line(self.predict, lambda: {"versions": sorted(self.held)})
        self.line.open(path)
        self.place = Place(name, "a", str(path), "", 0)

    def predict(self, version: int, items: Any) -> list[dict[str, Any]]:
        self.asked.append(version)
        assert self.gate.wait(20)
        if version == GONE:
            raise Problem("model_unavailable", "It is not there.", retry_after=3)
        self.held.add(version)
        return [{"y": 0} for _ in items]

    def beats(self, number: int, work: int = 0) -> None:
        self.place = replace(
            self.place, versions=tuple(self.held), work=work,
            beat_at=BEAT + timedelta(seconds=number),
        )  # fmt: skip


@pytest.fixture
def crew(
    tmp_path: Path, inference_node: Node, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Worker]]:
    workers = [Worker(name, tmp_path / name) for name in "abc"]
    monkeypatch.setattr(gateway, "_silent", {})
    monkeypatch.setattr(gateway, "_known", Known())
    monkeypatch.setattr(gateway, "_local", threading.local())
    monkeypatch.setattr(links, "places", lambda: [one.place for one in workers])
    yield workers
    for link in gateway._local.__dict__.get("links", {}).values():
        link.close()
    for one in workers:
        one.gate.set()
        one.line.close()


def tell(crew: list[Worker], who: int, holds: int, *, at: int = 1) -> None:
    """One has loaded that version, and all beat."""
    crew[who].held.add(holds)
    for one in crew:
        one.beats(at)


def ask(found: Found = MODEL, times: int = 1) -> None:
    for _ in range(times):
        gateway.ask(found, [{"x": 1}], timeout=20)


def asked(crew: list[Worker]) -> list[int]:
    return [len(one.asked) for one in crew]


def test_the_worker_is_asked_that_told_at_its_beat_what_it_holds(
    crew: list[Worker],
) -> None:
    tell(crew, 1, ONE)
    ask(times=20)
    assert asked(crew) == [0, 20, 0]


def test_who_has_answered_is_asked_again(crew: list[Worker]) -> None:
    ask(times=20)
    assert sorted(asked(crew)) == [0, 0, 20]


def test_a_later_beat_tells_of_what_was_evicted(crew: list[Worker]) -> None:
    tell(crew, 0, ONE)
    ask(times=5)
    crew[0].held.clear()
    tell(crew, 2, ONE, at=2)
    ask(times=5)
    assert asked(crew) == [5, 0, 5]


def test_a_model_that_nobody_holds_goes_to_the_one_with_the_least_work(
    crew: list[Worker],
) -> None:
    for one, work in zip(crew, (3, 1, 2), strict=True):
        one.beats(1, work)
    ask()
    assert asked(crew) == [0, 1, 0]


def test_who_loads_a_model_is_asked_and_others_have_the_rest(
    crew: list[Worker],
) -> None:
    known = Known()
    places = [one.place for one in crew]
    with known.asking(places[1], ONE), known.asking(places[2], TWO):
        assert known.in_order(places, ONE)[0] == places[1]
        assert known.in_order(places, GONE)[0] == places[0]
    assert not known._flying


def test_what_a_worker_cannot_load_is_asked_of_anyone_next(crew: list[Worker]) -> None:
    tell(crew, 0, GONE)
    with pytest.raises(Problem, match="not there"):
        ask(Found(GONE, "m", 1, 0))
    assert gateway._known._held[crew[0].place] == set()


def test_a_worker_that_died_is_followed_by_another(crew: list[Worker]) -> None:
    tell(crew, 1, ONE)
    ask(times=2)
    crew[1].line.close()
    ask(times=2)
    assert sum(asked(crew)) == 4
    assert len(crew[1].asked) == 2


def test_a_worker_without_a_sign_of_life_is_asked_last_whatever_it_holds(
    crew: list[Worker],
) -> None:
    tell(crew, 1, ONE)
    gateway._shun(crew[1].place)
    ask(times=3)
    assert asked(crew)[1] == 0


def test_places_tell_what_their_last_beat_said(inference_node: Node) -> None:
    row, _ = Service.register(
        service_name=links.SERVICE, host="a", port=1, metadata={"node": "a"}
    )
    (before,) = links.places()
    row.beat(metadata={"node": "a", "models": [ONE]}, connections=2)
    (after,) = links.places()
    assert (before.versions, after.versions, after.work) == (None, (ONE,), 2)
    assert before == after


def test_one_worker_is_told_nothing_beside_the_question(
    crew: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "places", lambda: [crew[0].place])
    kinds: list[frames.Kind] = []
    receive = frames.receive

    def noting(link: Any) -> Any:
        kind, number, content = receive(link)
        kinds.append(kind)
        return kind, number, content

    monkeypatch.setattr(frames, "receive", noting)
    ask(times=3)
    assert frames.Kind.PING not in kinds
    assert kinds.count(frames.Kind.REPLY) == 3
