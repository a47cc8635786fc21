"""What nobody waits for any more ends, in the middle of a pass where the engine can."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference import caller, control, frames, mirror, onnx_model, predictor, stop
from inference.cache import Facts
from inference.caller import Caller
from inference.chunk import Chunk
from inference.flow import Flow
from inference.frames import Kind, Status
from inference.line import Line
from inference.links import Link, Place
from inference.mirror import Mirror
from inference.onnx_model import Predictor
from inference.stop import Stop, Stopped, StopWhen
from registry.errors import BadItem
from registry.models import ModelVersion
from tests.inference import tiny
from tests.inference.test_onnx import endless, examined

FACTS = Facts(1, "net:1", "onnx", "d", 1)
QUICK, ENDLESS = {"x": [1.0, 2.0]}, {"x": [101.0, 2.0]}
SOON, LONG = 0.3, 20.0  # seconds


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A graph that is quick, and never ends if a number is above 100."""
    from django.conf import settings

    before, settings.DATA_DIR = settings.DATA_DIR, tmp_path_factory.mktemp("data")
    try:
        return examined(endless(beyond=100.0))
    finally:
        settings.DATA_DIR = before


@pytest.fixture
def model(made: Predictor, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """The same, as one of which nobody knows that it has a loop."""
    monkeypatch.setattr(made, "has_loop", False)
    return made


def answer(model: Any, *items: Any) -> list[dict[str, Any]]:
    return predictor.answer(model, items, FACTS)


def test_a_pass_ends_at_its_deadline_and_the_next_one_is_whole(
    model: Predictor,
) -> None:
    for _ in range(2):
        with Stop(time.monotonic() + SOON), pytest.raises(Stopped):
            answer(model, QUICK, ENDLESS)
        assert answer(model, QUICK) == [{"y": [1.0, 2.0]}]


def test_a_pass_ends_when_another_thread_says_so_and_no_other_does(
    model: Predictor,
) -> None:
    ends = [Stop(), Stop(time.monotonic() + LONG)]
    over: list[int] = []

    def compute(number: int) -> None:
        with ends[number], pytest.raises(Stopped):
            answer(model, ENDLESS)
        over.append(number)

    threads = [threading.Thread(target=compute, args=(n,)) for n in range(2)]
    for one in threads:
        one.start()
    for n, one in enumerate(threads):
        assert over == [*range(n)]
        assert answer(model, QUICK) == [{"y": [1.0, 2.0]}]
        ends[n].now()
        one.join(LONG)
    assert over == [0, 1]


def test_whoever_watches_sleeps_while_nothing_is_computed(
    model: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop, "QUIET", 1)
    answer(model, QUICK)
    wait_until(lambda: not stop._awake.is_set())
    looked = threading.Event()
    monkeypatch.setattr(stop, "_look", lambda: looked.set() or False)
    assert not looked.wait(3 * stop.LOOK_EVERY)
    monkeypatch.undo()
    with Stop(time.monotonic() + SOON), pytest.raises(Stopped):
        answer(model, ENDLESS)


def test_whoever_watches_begins_once_a_thread_can_be_had(
    model: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(stop, "_watch", [])
    monkeypatch.setattr(stop, "_awake", threading.Event())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert answer(model, QUICK) == [{"y": [1.0, 2.0]}]
    for _ in range(2):
        with Stop(time.monotonic() + SOON), pytest.raises(Stopped):
            answer(model, ENDLESS)
    assert len(stop._watch) == 1


def test_a_graph_with_a_loop_has_five_seconds_or_until_nobody_waits(
    made: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made.has_loop
    with Stop(time.monotonic() + SOON), pytest.raises(Stopped):
        answer(made, ENDLESS)
    monkeypatch.setattr(onnx_model, "LONGEST", SOON)
    with Stop(time.monotonic() + LONG), pytest.raises(BadItem, match="did not end"):
        made.predict([made.encode(ENDLESS)])


class Slow:
    """A model on an engine that knows no end, such as torch."""

    nbytes, uses_torch = 0, False

    def __init__(self) -> None:
        self.passes: list[int] = []
        self.stop = Stop()

    def encode(self, item: Any) -> Any:
        return item

    def predict(self, encoded: list[Any]) -> list[dict[str, Any]]:
        self.passes.append(len(encoded))
        self.stop.now()
        return [{"y": 1.0} for _ in encoded]


def test_on_any_engine_no_further_pass_begins_and_no_item_is_blamed() -> None:
    slow = Slow()
    with slow.stop, pytest.raises(Stopped):
        predictor.answer(slow, [{}] * 9, FACTS, batch=4)
    assert slow.passes == [4]
    with slow.stop, pytest.raises(Stopped):
        answer(slow, {})
    assert len(predictor.answer(slow, [{}] * 9, FACTS, batch=4)) == 9


@pytest.fixture
def link(model: Predictor, tmp_path: Path) -> Iterator[Link]:
    def predict(version: int, items: Any) -> list[dict[str, Any]]:
        return answer(model, *items)

    one = Line(predict, lambda: {"name": "inference@one", "versions": [1]})
    one.open(tmp_path / "l.sock")
    made = Link(Place("inference@one", "a", str(tmp_path / "l.sock"), "", 0))
    made.socket.settimeout(LONG)
    yield made
    made.close()
    wait_until(lambda: not one._callers)  # its passes have ended, too
    one.close()


def ask(link: Link, number: int, item: Any, seconds: float = LONG) -> None:
    lists = [json.dumps([item]).encode()]
    link.socket.sendall(frames.ask(number, 1, int(1000 * seconds), lists))


def told(link: Link) -> tuple[int, int]:
    kind, number, content = frames.receive(link.socket)
    assert kind is Kind.REPLY
    return number, frames.read_reply(content)[1][0][0]


def test_a_line_stops_what_is_past_its_deadline_and_answers_the_others(
    link: Link,
) -> None:
    ask(link, 1, ENDLESS, SOON)
    ask(link, 2, QUICK)
    assert told(link) == (2, Status.OUTPUTS)
    assert told(link) == (1, Status.PROBLEM)


def test_a_line_stops_what_is_dropped(link: Link) -> None:
    ask(link, 1, ENDLESS)
    ask(link, 2, QUICK)
    assert told(link) == (2, Status.OUTPUTS)
    link.socket.sendall(frames.frame(Kind.DROP, 1))
    assert told(link) == (1, Status.PROBLEM)


def test_a_line_stops_what_was_asked_by_a_connection_that_is_gone(link: Link) -> None:
    ask(link, 1, ENDLESS)
    ask(link, 2, QUICK)
    assert told(link) == (2, Status.OUTPUTS)  # the fixture waits for the other one


def test_a_line_stops_what_it_begins_for_a_connection_that_is_gone_by_then() -> None:
    def predict(version: int, items: Any) -> list[dict[str, Any]]:
        stop.look()
        return [{"y": 1}]

    line = Line(predict, dict)
    mine, theirs = socket.socketpair()
    content = frames.ask(7, 1, 60_000, [b"[1]"])[frames.HEAD.size :]
    with mine, theirs:
        one = Caller(line, theirs, None)
        for has_left, status in ((True, Status.PROBLEM), (False, Status.OUTPUTS)):
            one._is_over, one._is_stopping = True, not has_left
            assert one._answer(Kind.ASK, 7, content)
            kind, number, told = frames.receive(mine)
            assert (kind, number) == (Kind.REPLY, 7)
            assert frames.read_reply(told)[1][0][0] == status


def test_a_batch_that_was_taken_for_a_quick_one_holds_up_no_others(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "AT_ONCE", SOON)
    for number in range(50):
        ask(link, number, QUICK)
        told(link)
    ask(link, 50, ENDLESS)
    ask(link, 51, QUICK)
    assert told(link) == (51, Status.OUTPUTS)


def test_a_flow_that_is_closed_stops_its_passes(model: Predictor) -> None:
    found: list[BaseException] = []

    def predict(chunk: Chunk) -> Any:
        try:
            return answer(model, *chunk.raws)
        except Stopped as error:
            found.append(error)
            raise

    flow = Flow(predict, width=lambda: 1, most=1, look=lambda: None)
    flow.push(Chunk([ENDLESS], [None], [ENDLESS]), lambda answers: None)
    wait_until(lambda: flow._running)
    flow.close()
    wait_until(lambda: found)


@pytest.mark.parametrize("why", ["somebody asks", "it is long", "the worker ends"])
def test_a_shadow_gives_way_in_the_middle_of_a_pass(
    model: Predictor, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    begun, is_idle, rows = threading.Event(), [True], list[Any]()

    def predict(version: int, items: Any) -> list[dict[str, Any]]:
        if items:
            begun.set()
        return answer(model, *items)

    one = Mirror(
        predict,
        is_idle=lambda: is_idle[0],
        has_room=lambda _: True,
        write=lambda second, figures: rows.append(figures),
    )
    limit = "LONGEST" if why == "it is long" else "YIELDS_AFTER"
    monkeypatch.setattr(mirror, limit, SOON)
    lists, answers = [json.dumps([ENDLESS]).encode()], [(Status.OUTPUTS, b'[{"y":1}]')]
    one.note((7, 2), 1, lists, answers, 0.1)
    assert begun.wait(LONG)
    if why == "somebody asks":
        is_idle[0] = False
    if why == "the worker ends":
        one.close()
    else:
        wait_until(lambda: any("shadow" in figures for figures in rows))
        one.close()
    assert one._thread is not None
    assert not one._thread.is_alive()
    assert [f["shadow"] for f in rows if "shadow" in f] == [{"dropped": 1}]


def test_a_shadow_may_go_on_for_a_while_though_somebody_asks() -> None:
    now, is_idle = [0.0], [True]
    one = Mirror(
        lambda *_: [],
        is_idle=lambda: is_idle[0],
        has_room=lambda _: True,
        monotonic=lambda: now[0],
    )
    with StopWhen(lambda: one._has_to_end(0.0)):
        is_idle[0], now[0] = False, 0.9 * mirror.YIELDS_AFTER
        stop.look()
        is_idle[0], now[0] = True, 0.9 * mirror.LONGEST
        stop.look()
        is_idle[0] = False
        with pytest.raises(Stopped):
            stop.look()
        is_idle[0] = True
        with pytest.raises(Stopped):
            stop.look()


@pytest.mark.django_db
def test_a_model_that_never_answers_its_example_is_not_in_use_for_ever(
    model: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = tiny.make_version()
    ModelVersion.objects.filter(pk=row.pk).update(signature={"examples": [ENDLESS]})
    monkeypatch.setattr(control, "WARM_UP_WITHIN", SOON)
    with Stop(time.monotonic() + LONG):
        control.warm_up(model, replace(FACTS, version=row.pk))


def wait_until(done: Callable[[], Any]) -> None:
    end = time.monotonic() + LONG
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)
