from __future__ import annotations

import socket
import threading
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from amqp.transport import TCPTransport
from celery.worker.consumer import Consumer
from celery.worker.consumer.connection import Connection
from kombu.asynchronous import Hub

from compass import loop, worker
from compass.celery import app
from compass.loop import (
    CUT_AFTER,
    ENDED_AFTER,
    KILLED_AFTER,
    LATE_CUT_AFTER,
    Turns,
    Watch,
)


class Done(list[str]):
    """What a watch did, in its order."""

    def watch(self) -> Watch:
        watch = Watch(
            end=lambda: self.append("end"), kill=lambda code: self.append("kill")
        )
        watch._thread = mock.Mock()  # the test looks itself
        watch.begin(lambda: self.append("cut"))
        return watch

    def after(self, watch: Watch, looks: int) -> list[str]:
        for _ in range(looks):
            watch.look()
        return list(self)


def test_a_loop_that_turns_is_left_alone() -> None:
    done = Done()
    watch = done.watch()
    for _ in range(100):
        watch.turn()
        assert done.after(watch, CUT_AFTER - 1) == []


def test_a_loop_that_stands_still_is_cut_off_then_ended_then_killed() -> None:
    done = Done()
    watch = done.watch()
    assert done.after(watch, CUT_AFTER - 1) == []
    assert done.after(watch, 1) == ["cut"]
    assert done.after(watch, ENDED_AFTER - CUT_AFTER - 1) == ["cut"]
    assert done.after(watch, 1) == ["cut", "end"]
    assert done.after(watch, KILLED_AFTER - 1) == ["cut", "end"]
    assert done.after(watch, 1) == ["cut", "end", "kill"]


def test_a_loop_that_connects_anew_after_the_cut_goes_on() -> None:
    done = Done()
    watch = done.watch()
    done.after(watch, CUT_AFTER)
    watch.pause()
    assert done.after(watch, 1000) == ["cut"], "the broker is away"
    watch.begin(lambda: done.append("again"))
    assert done.after(watch, CUT_AFTER - 1) == ["cut"]
    assert done.after(watch, 1) == ["cut", "again"]


def test_asked_to_stop_it_has_bounded_time_and_is_cut_off_earlier() -> None:
    done = Done()
    watch = done.watch()
    watch.leave()
    assert done.after(watch, LATE_CUT_AFTER - 1) == []
    assert done.after(watch, 1) == ["cut"]
    assert done.after(watch, KILLED_AFTER - LATE_CUT_AFTER - 1) == ["cut"]
    assert done.after(watch, 1) == ["cut", "kill"]


def test_asked_to_stop_it_has_bounded_time_though_the_broker_is_away() -> None:
    done = Done()
    watch = done.watch()
    watch.pause()
    watch.leave()
    assert done.after(watch, KILLED_AFTER - 1) == []
    assert done.after(watch, 1) == ["kill"]


def test_a_reader_that_waits_for_the_rest_of_a_frame_is_let_go_by_the_cut() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = TCPTransport("{}:{}".format(*server.getsockname()))
        transport.connect()
        peer, _ = server.accept()
    with peer:
        frame = b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x0b\xce"
        peer.sendall(frame[:-1])
        # As the event loop reads: it has seen that there is something, and does not wait.
        transport.sock.settimeout(0)
        errors: list[Exception] = []

        def read() -> None:
            try:
                transport.read_frame()
            except Exception as error:
                errors.append(error)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        amqp = SimpleNamespace(_transport=transport)
        consumer = SimpleNamespace(connection=SimpleNamespace(_connection=amqp))
        loop.cut(consumer)
        reader.join(30)
        assert not reader.is_alive()
        assert isinstance(errors[0], OSError)
    transport.close()
    loop.cut(consumer)  # nothing left to break off


def test_the_loop_of_every_worker_is_looked_after_while_it_is_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = Done()
    watch = done.watch()
    monkeypatch.setattr(loop, "WATCH", watch)
    assert Turns in app.steps["consumer"]
    assert Turns.requires == (Connection,)
    step, consumer = Turns(mock.Mock()), mock.Mock()
    watch.pause()
    step.start(consumer)
    done.after(watch, CUT_AFTER - 1)
    hub = Hub()
    with mock.patch.object(hub, "call_repeatedly") as repeat:
        step.register_with_event_loop(consumer, hub)
    every, turn = repeat.call_args.args
    assert every < loop.EVERY
    turn()
    assert watch._still == 0
    step.stop(consumer)
    assert done.after(watch, 1000) == []


def test_without_a_loop_that_turns_nothing_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = Done()
    watch = done.watch()
    monkeypatch.setattr(loop, "WATCH", watch)
    watch.pause()
    Turns(mock.Mock()).start(mock.Mock(hub=None))
    assert done.after(watch, 1000) == []


def test_a_worker_that_is_asked_to_stop_has_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = Done()
    watch = done.watch()
    monkeypatch.setattr(loop, "WATCH", watch)
    monkeypatch.setattr(worker, "_parts", {})
    worker.ask_to_stop()
    assert done.after(watch, KILLED_AFTER)[-1] == "kill"


def test_after_a_reconnection_no_thread_reads_what_the_main_loop_reads() -> None:
    qos = mock.MagicMock(value=1)
    consumer: Any = SimpleNamespace(
        app=app, qos=qos, max_prefetch_count=5, initial_prefetch_count=1,
        _new_prefetch_count=2, _maximum_prefetch_restored=False,
    )  # fmt: skip
    # Celery has the pool's threads do so, at the end of each acknowledgement.
    Consumer._restore_prefetch_count_after_connection_restart(consumer, None)
    qos.set.assert_not_called()
