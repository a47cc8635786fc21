"""A worker's place among the nodes."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError

from registry import membership, room
from registry.membership import Membership
from registry.models import Node, Task
from registry.resources import GIB
from registry.states import State

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats follow each other without a wait, in the test's own thread."""
    monkeypatch.setattr(membership, "BEAT_EVERY", datetime.timedelta(0))
    monkeypatch.setattr(membership, "close_old_connections", lambda: None)


def join(**options: Any) -> Membership:
    return Membership("cpu@one", cpus=2, memory=GIB, **options)


def test_it_beats_until_it_leaves_and_then_is_stopped(time: Any) -> None:
    beats: list[datetime.datetime] = []

    def on_beat(node: Node) -> None:
        beats.append(Node.objects.get().beat_at)
        time.forward(seconds=5)
        if len(beats) == 3:
            member.leave()

    member = join(on_beat=on_beat)
    member.run()
    assert beats == sorted(set(beats))
    assert Node.objects.get().condition(time()) == "stopped"


def test_a_beat_that_fails_is_tried_again(
    time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat, failures = Node.beat, iter(range(3))

    def sometimes(self: Node, **changes: Any) -> bool:
        if next(failures, None) is not None:
            raise OperationalError("gone")
        return beat(self, **changes)

    monkeypatch.setattr(Node, "beat", sometimes)
    seen: list[Node] = []
    member = join(on_beat=lambda node: (seen.append(node), member.leave()))
    member.run()
    assert len(seen) == 1


def test_when_another_life_took_the_name_it_ends_and_says_so(time: Any) -> None:
    lost: list[bool] = []
    member = join(on_lost=lambda: lost.append(True))
    join()
    member.run()
    assert lost == [True]
    member.leave()
    assert Node.objects.get().stopped_at is None, "the new life goes on"


def test_joining_places_what_waited_for_a_node(
    time: Any, submit: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = submit()
    member = join()
    monkeypatch.setattr(member, "start", lambda: None)
    member.join_in()
    task.refresh_from_db()
    assert task.state == State.ASSIGNED


def gpus(busy: str = "") -> dict[str, Any]:
    return {"gpus": [{"index": 0, "name": "Test", "memory": GIB, "busy": busy}]}


def test_a_beat_tells_of_the_node_and_places_anew_when_its_offer_changes(
    time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    monkeypatch.setattr(membership.dispatcher, "nudge", lambda: passes.append(1))
    told = [gpus()]
    member = join(tell=lambda: told[-1])
    for busy, expected in (("", 0), ("GPU 0 is used.", 1), ("GPU 0 is used!", 1)):
        told.append(gpus(busy))
        assert member.beat()
        assert Node.objects.get().gpus[0]["busy"] == busy
        assert len(passes) == expected
    told.append(gpus())
    assert member.beat()
    assert len(passes) == 2


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DISK", 2**60, "GiB of disk left"),
        ("MEMORY", 2**60, "GiB of memory left"),
        ("LOAD", -1, "has a load of"),
    ],
)
def test_a_beat_says_what_the_host_is_short_of(
    time: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: int, words: str
) -> None:
    member = join(tell=lambda: {"status": {"models": []}})
    assert Node.objects.get().status == {"models": [], "short": ""}
    monkeypatch.setattr(room, name, value)
    assert member.beat()
    assert words in Node.objects.get().status["short"]


def test_a_node_that_cannot_look_at_itself_beats_all_the_same(time: Any) -> None:
    def tell() -> dict[str, Any]:
        raise RuntimeError("the driver is in disorder")

    member = join(tell=tell)
    time.forward(seconds=10)
    assert member.beat()
    assert Node.objects.get().beat_at == time()


def test_an_earlier_life_tells_nothing(time: Any) -> None:
    member = join(tell=gpus)
    join()
    assert not member.beat()
    assert Node.objects.get().gpus == []


def test_nodes_that_begin_together_do_not_beat_together(
    time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "BEAT_EVERY", datetime.timedelta(seconds=8))
    monkeypatch.setattr(membership.random, "random", lambda: 0.25)
    member, pauses = join(), list[float]()

    class Left:
        def wait(self, seconds: float) -> bool:
            pauses.append(seconds)
            return len(pauses) == 3

    monkeypatch.setattr(member, "_left", Left())
    member.run()
    assert pauses == [2, 8, 8]
