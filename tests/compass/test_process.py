from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from compass import log, process
from compass.log import tail
from compass.process import Phase, Process


class Seconds:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def make(tmp_path: Path, seconds: Seconds) -> Callable[..., Process]:
    def make(code: str = "", **options: object) -> Process:
        fields: dict[str, object] = {
            "name": "child",
            "command": [sys.executable, "-c", code],
            "log": tmp_path / "logs" / "child.log",
            "environment": dict(os.environ),
            "directory": tmp_path,
            "clock": seconds,
            **options,
        }
        return Process(**fields)  # type: ignore[arg-type]

    return make


def look_until(child: Process, phase: Phase) -> str:
    """Look until the child, a real process, is there; the news."""
    deadline, news = time.monotonic() + 20, ""
    while child.phase is not phase and time.monotonic() < deadline:
        news = child.look() or news
        time.sleep(0.01)
    assert child.phase is phase
    return news


def test_a_child_that_says_so_is_ready(make: Callable[..., Process]) -> None:
    fd = "int(os.environ['COMPASS_READY_FD'])"
    child = make(f"import os, time; os.write({fd}, b'1'); time.sleep(60)")
    child.start()
    assert "is ready" in look_until(child, Phase.READY)
    child.kill()
    look_until(child, Phase.WAITING)


def test_a_dead_child_is_started_again_later_and_later(
    make: Callable[..., Process], seconds: Seconds
) -> None:
    child = make("import sys; print('what went wrong'); sys.exit(3)")
    child.start()
    waits = []
    for _ in range(8):
        news = look_until(child, Phase.WAITING)
        assert "exit code 3" in news
        assert "what went wrong" in news
        waits.append(child.due - seconds.now)
        assert child.look() == ""  # not yet
        assert child.phase is Phase.WAITING
        seconds.now = child.due
        child.look()
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert child.phase is Phase.STARTING
    look_until(child, Phase.WAITING)


def test_a_ready_child_that_is_killed_a_few_times_is_soon_back(
    make: Callable[..., Process], seconds: Seconds
) -> None:
    child = make("import time; time.sleep(60)", probe=lambda: True)
    child.start()
    waits = []
    for _ in range(6):
        look_until(child, Phase.READY)
        child.kill()
        look_until(child, Phase.WAITING)
        waits.append(child.due - seconds.now)
        seconds.now = child.due
        child.look()
    assert waits == [0.5, 0.5, 0.5, 0.5, 1, 2]
    look_until(child, Phase.READY)
    child.kill()
    look_until(child, Phase.WAITING)


def test_after_a_good_life_the_back_off_begins_anew(
    make: Callable[..., Process], seconds: Seconds
) -> None:
    child = make("import time; time.sleep(60)", probe=lambda: True, back_off=16.0)
    child.start()
    look_until(child, Phase.READY)
    seconds.now += process.GOOD_LIFE
    child.kill()
    assert "killed by SIGKILL" in look_until(child, Phase.WAITING)
    assert child.due - seconds.now == process.FIRST_BACK_OFF


def test_a_child_that_never_gets_ready_is_killed(
    make: Callable[..., Process], seconds: Seconds
) -> None:
    child = make("import time; time.sleep(60)", patience=5.0)
    child.start()
    child.look()
    assert child.phase is Phase.STARTING
    seconds.now += 6
    assert "SIGKILL" in look_until(child, Phase.WAITING)


def test_the_whole_group_ends_with_its_leader(
    make: Callable[..., Process], tmp_path: Path
) -> None:
    code = (
        "import os, time\n"
        "pid = os.fork()\n"
        "if pid: open('aside', 'w').write(str(pid)); os.rename('aside', 'grandchild')\n"
        "time.sleep(60)\n"
    )
    child = make(code, probe=(tmp_path / "grandchild").exists)
    child.start()
    look_until(child, Phase.READY)
    os.kill(child.pid, signal.SIGKILL)
    look_until(child, Phase.WAITING)
    grandchild = int((tmp_path / "grandchild").read_text())
    assert grandchild != child.pid
    # Whoever adopted it may not have reaped it yet, and a busy kernel takes its time.
    for _ in range(500):
        if not psutil.pid_exists(grandchild) or is_zombie(grandchild):
            return
        time.sleep(0.01)
    pytest.fail("the grandchild lives on")


def is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_copy_runs_a_function_under_the_title_of_its_command(
    make: Callable[..., Process], tmp_path: Path
) -> None:
    def main() -> None:
        title = Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").decode()
        Path("seen").write_text(f"{title}|{sys.argv}|{os.environ.get('ONLY')}")
        sys.exit("a reason")

    child = make(
        command=["python", "-m", "thing", "-n", "name"],
        main=main,
        environment={"ONLY": "this"},
        probe=lambda: False,
    )
    child.start()
    assert "a reason" in look_until(child, Phase.WAITING)
    seen = (tmp_path / "seen").read_text()
    assert seen == "python -m thing -n name|['thing', '-n', 'name']|this"


def test_a_child_keeps_no_file_of_the_stack_open(
    make: Callable[..., Process], tmp_path: Path
) -> None:
    secret = os.open(tmp_path / "secret", os.O_CREAT | os.O_RDWR)
    code = "import os; print(sorted(os.listdir('/proc/self/fd')), flush=True)"
    child = make(code, probe=lambda: False)
    child.start()
    look_until(child, Phase.WAITING)
    assert tail(child.log, 1) == "['0', '1', '2', '3']"  # 3 lists the directory
    os.close(secret)


def test_what_could_not_be_started_is_tried_again(
    make: Callable[..., Process], monkeypatch: pytest.MonkeyPatch, seconds: Seconds
) -> None:
    def fail(*args: object, **options: object) -> int:
        raise OSError("no process to be had")

    child = make()
    child.phase, child.due = Phase.WAITING, seconds.now
    monkeypatch.setattr(process, "fork", fail)
    assert "no process to be had" in child.look()
    assert child.phase is Phase.WAITING
    assert child.due > seconds.now


def test_a_long_log_is_put_aside_while_the_child_lives(
    make: Callable[..., Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, time\n"
        "print('before', flush=True)\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "print('after', flush=True); open('done', 'w').close(); time.sleep(60)\n"
    )
    child = make(code, probe=(tmp_path / "done").exists)
    child.start()
    while not tail(child.log, 1):
        time.sleep(0.01)
    monkeypatch.setattr(log, "LIMIT", 3)
    child.look()
    monkeypatch.setattr(log, "LIMIT", 1000)
    (tmp_path / "go").touch()
    look_until(child, Phase.READY)
    child.kill()
    look_until(child, Phase.WAITING)
    assert child.log.with_suffix(".log.1").read_text() == "before\n"
    assert child.log.read_text() == "after\n"


def test_a_log_that_cannot_be_put_aside_hurts_no_child(
    make: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> bool:
        raise OSError("no space left")

    child = make("import time; time.sleep(60)", probe=lambda: True)
    child.start()
    monkeypatch.setattr(process, "rotate", fail)
    assert "is ready" in look_until(child, Phase.READY)
    child.kill()
    look_until(child, Phase.WAITING)


def test_what_dies_young_again_and_again_is_mended_once(
    make: Callable[..., Process], seconds: Seconds
) -> None:
    mended: list[int] = []

    def mend() -> str:
        mended.append(child.failures)
        return "mended"

    child = make("import sys; sys.exit(1)", mend=mend)
    child.start()
    news = []
    for _ in range(5):
        look_until(child, Phase.WAITING)
        seconds.now = child.due
        news.append(child.look())
    assert news == ["", "", "mended", "", ""]
    assert mended == [3]
    look_until(child, Phase.WAITING)


def test_who_was_ready_in_between_needs_no_mending(
    make: Callable[..., Process], seconds: Seconds
) -> None:
    child = make(
        "import time; time.sleep(60)",
        probe=lambda: True,
        mend=lambda: pytest.fail("nothing to mend"),
        failures=2,
    )
    child.start()
    for _ in range(3):
        look_until(child, Phase.READY)
        child.kill()
        look_until(child, Phase.WAITING)
        seconds.now = child.due
        child.look()
    child.kill()
    look_until(child, Phase.WAITING)


def deaf() -> None:
    """Never ready, and hears no wish to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path("deaf").touch()
    time.sleep(60)


def test_a_copy_that_is_not_ready_ends_at_once(
    make: Callable[..., Process], tmp_path: Path
) -> None:
    child = make(main=deaf, command=["python", "-m", "thing"])
    child.start()
    while not (tmp_path / "deaf").exists():
        time.sleep(0.01)
    child.ask_to_stop()
    deadline = time.monotonic() + 10
    while not child.has_ended() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert child.has_ended()


def test_a_copy_that_said_it_is_ready_is_asked(
    make: Callable[..., Process], tmp_path: Path
) -> None:
    def main() -> None:
        # Waited for, not paused for: it may come before the wait begins.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.write(int(os.environ["COMPASS_READY_FD"]), b"1")
        Path("ready").touch()
        signal.sigwait({signal.SIGTERM})
        Path("asked").touch()

    child = make(main=main, command=["python", "-m", "thing"])
    child.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    child.ask_to_stop()  # before the stack has looked
    while not child.has_ended():
        time.sleep(0.01)
    assert (tmp_path / "asked").exists()
