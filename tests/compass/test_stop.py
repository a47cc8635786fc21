"""The order and the patience in which the stack ends, with processes that are not real."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest
from django.conf import settings

from compass import stack as module
from compass.stack import Stack


class Seconds:
    """A clock that moves with each wait, and the signals that come during them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.signals: list[signal.Signals | None] = []

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> signal.Signals | None:
        self.now += max(seconds, 0.01)
        return self.signals.pop(0) if self.signals else None


class Fake:
    """Ends so many seconds after it was asked; never, unless killed, if None."""

    def __init__(
        self, name: str, takes: float | None, clock: Seconds, diary: list[str]
    ) -> None:
        self.name, self.takes, self.clock, self.diary = name, takes, clock, diary
        self.asked = 0.0
        self.killed = self.ended = False

    def ask_to_stop(self) -> None:
        self.asked = self.clock.now
        self.diary.append(f"ask {self.name}")

    def kill(self) -> None:
        if not self.killed:
            self.diary.append(f"kill {self.name}")
        self.killed = True

    def has_ended(self) -> bool:
        late = self.clock.now - self.asked
        done = self.killed or (self.takes is not None and late >= self.takes)
        if done and not self.ended:
            self.ended = True
            self.diary.append(f"end {self.name}")
        return done


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    clock = Seconds()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "wait_for_signal", clock.wait)
    monkeypatch.setattr(Stack, "_end_orphans", lambda self: None)
    return clock


def stop(tmp_path: Path, stages: list[list[Fake]]) -> None:
    environment = replace(settings.ENVIRONMENT, data_dir=tmp_path)
    stack = Stack(environment, say=lambda line: None)
    stack.address.write_text("http://127.0.0.1:8000")
    stack.stages = stages  # type: ignore[assignment]
    stack._stop()
    assert not stack.address.exists()


def test_it_ends_in_reverse_order(tmp_path: Path, seconds: Seconds) -> None:
    diary: list[str] = []

    def fake(name: str, takes: float | None = 1.0) -> Fake:
        return Fake(name, takes, seconds, diary)

    workers = [fake("control"), fake("cpu", 3.0)]
    stop(tmp_path, [[fake("broker")], [fake("web")], workers, [fake("beat")]])
    assert diary == [
        "ask beat",
        "end beat",
        "ask control",
        "ask cpu",
        "end control",
        "end cpu",
        "ask web",
        "end web",
        "ask broker",
        "end broker",
    ]
    assert seconds.now == pytest.approx(6.0, abs=0.5)


def test_what_does_not_end_in_time_is_killed(tmp_path: Path, seconds: Seconds) -> None:
    diary: list[str] = []
    stop(tmp_path, [[Fake("cpu", None, seconds, diary)]])
    assert diary == ["ask cpu", "kill cpu", "end cpu"]
    assert seconds.now == pytest.approx(module.WORKER_PATIENCE, abs=0.5)


def test_a_second_signal_hurries(tmp_path: Path, seconds: Seconds) -> None:
    diary: list[str] = []
    seconds.signals = [None, signal.SIGINT]
    stop(tmp_path, [[Fake("web", None, seconds, diary)]])
    assert diary == ["ask web", "kill web", "end web"]
    assert seconds.now < 1


def test_a_stack_that_stood_still_goes_on_when_it_is_woken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing = signal.struct_siginfo((0,) * 7)  # after SIGSTOP and SIGCONT
    monkeypatch.setattr(module.signal, "sigtimedwait", lambda *_: nothing)
    assert module.wait_for_signal(1) is None


def test_who_asks_it_to_stop_is_told_from_a_child_that_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number, wanted in ((signal.SIGCHLD, None), (signal.SIGHUP, signal.SIGHUP)):
        got = signal.struct_siginfo((int(number), *(0,) * 6))
        monkeypatch.setattr(module.signal, "sigtimedwait", lambda *_, got=got: got)
        assert module.wait_for_signal(1) == wanted
