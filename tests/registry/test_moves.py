from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from registry.models import Node, Stale, Task
from registry.models.life import BACK_OFF, LONGEST_WAIT, MAX_RELEASES, Life
from registry.states import FINAL, LIVE, PLACED, REASONS, Move, Retry, State
from tests.conftest import Clock, make_node
from tests.registry.lives import VERBS, WORKERS, again, bring, snapshot

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]
ARROWS = [(move, state) for move in Move for state in State]
ALLOWED = [(move, state) for move, state in ARROWS if state in move.sources]
FORBIDDEN = [(move, state) for move, state in ARROWS if state not in move.sources]


def name(value: Any) -> str:
    return value.name.lower() if isinstance(value, Move) else str(value)


def call(verb: str, task: Task, node: Node) -> None:
    if verb == "beat":
        task.beat()
    else:
        VERBS[verb](task, node)


def test_every_move_has_a_verb_of_its_name() -> None:
    assert set(VERBS) == {move.name.lower() for move in Move}
    assert len(ALLOWED) + len(FORBIDDEN) == len(Move) * len(State)


@pytest.mark.parametrize(("move", "state"), ALLOWED, ids=name)
def test_an_allowed_move_enters_its_state_with_one_event(
    move: Move, state: State, node: Node, submit: Submit, time: Clock
) -> None:
    task = bring(submit(), state, node)
    before = snapshot(task)
    time.forward(seconds=1)
    VERBS[name(move)](task, node)
    after = snapshot(task)
    assert after["row"]["state"] == task.state == move.target
    assert after["events"][:-1] == before["events"]
    event = after["events"][-1]
    assert (event["verb"], event["state"]) == (name(move), move.target)
    assert (event["attempt"], event["at"]) == (task.attempt, time())
    assert (after["row"]["finished_at"] is not None) == (move.target in FINAL)
    live = [one["number"] for one in after["attempts"] if one["finished_at"] is None]
    assert live == ([task.attempt] if move.target in PLACED else [])


@pytest.mark.parametrize(("move", "state"), FORBIDDEN, ids=name)
def test_any_other_move_is_stale_and_changes_nothing(
    move: Move, state: State, node: Node, submit: Submit, time: Clock
) -> None:
    task = bring(submit(), state, node)
    before = snapshot(task)
    time.forward(seconds=1)
    with pytest.raises(Stale, match=f"task {task.pk}"):
        VERBS[name(move)](task, node)
    assert snapshot(task) == before


@pytest.mark.parametrize(("move", "state"), ALLOWED, ids=name)
def test_a_move_whose_event_cannot_be_written_is_not_made(
    move: Move,
    state: State,
    node: Node,
    submit: Submit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = bring(submit(), state, node)
    before = snapshot(task)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no event")

    monkeypatch.setattr(Life, "note", refuse)
    with pytest.raises(RuntimeError, match="no event"), transaction.atomic():
        VERBS[name(move)](task, node)
    assert snapshot(task) == before


@pytest.mark.parametrize("state", list(State), ids=str)
@pytest.mark.parametrize("wish", ["request_cancel", "request_pause"])
def test_a_wish_from_every_state(
    wish: str, state: State, node: Node, submit: Submit, time: Clock
) -> None:
    task = bring(submit(), state, node)
    before = snapshot(task)
    time.forward(seconds=1)
    heard = LIVE if wish == "request_cancel" else {State.RUNNING}
    if state not in heard:
        with pytest.raises(Stale):
            getattr(task, wish)()
        assert snapshot(task) == before
        return
    getattr(task, wish)()
    after = snapshot(task)
    at_once = wish == "request_cancel" and state != State.RUNNING
    assert task.state == (State.CANCELLED if at_once else state)
    assert after["events"][:-1] == before["events"]
    assert after["events"][-1]["verb"] == wish
    assert after["events"][-1]["state"] == task.state
    asked = "cancel_requested_at" if wish == "request_cancel" else "pause_requested_at"
    assert after["row"][asked] == time()
    assert not task.attempts.filter(finished_at=None).exists() or not at_once
    if at_once:
        assert (task.finished_at, task.reason) == (time(), "cancelled_by_user")
        assert task.message


@pytest.mark.parametrize("wish", ["request_cancel", "request_pause"])
def test_a_wish_made_again_keeps_its_first_time(
    wish: str, node: Node, submit: Submit, time: Clock
) -> None:
    task = bring(submit(), State.RUNNING, node)
    getattr(task, wish)()
    first = snapshot(task)["row"]
    time.forward(seconds=9)
    getattr(again(task), wish)()
    assert snapshot(task)["row"] == first


@pytest.mark.parametrize("state", [s for s in State if s != State.RUNNING], ids=str)
def test_only_a_running_task_beats(state: State, node: Node, submit: Submit) -> None:
    task = bring(submit(), state, node)
    before = snapshot(task)
    with pytest.raises(Stale):
        task.beat(progress={"fraction": 0.5})
    assert snapshot(task) == before


def test_a_beat_writes_what_changed_and_no_event(
    node: Node, submit: Submit, time: Clock
) -> None:
    task = bring(submit(), State.RUNNING, node)
    before = snapshot(task)
    time.forward(seconds=5)
    task.beat(progress={"fraction": 0.5})
    after = snapshot(task)
    assert after["row"]["beat_at"] == time()
    assert after["row"]["progress"] == task.progress == {"fraction": 0.5}
    assert after["events"] == before["events"]


# The attempt is a fence


@pytest.mark.parametrize("now", [State.ASSIGNED, State.RUNNING], ids=str)
@pytest.mark.parametrize("verb", WORKERS)
def test_a_zombie_can_write_nothing(
    verb: str, now: State, node: Node, submit: Submit, time: Clock
) -> None:
    task = bring(submit(), State.RUNNING, node)
    zombie = again(task)
    task.release("node_lost", "The node is gone.")
    bring(task, now, node)
    before = snapshot(task)
    time.forward(seconds=1)
    with pytest.raises(Stale):
        call(verb, zombie, node)
    assert snapshot(task) == before
    assert task.attempt == 2


@pytest.mark.parametrize("verb", WORKERS)
def test_a_worker_whose_task_was_taken_away_can_write_nothing(
    verb: str, node: Node, submit: Submit
) -> None:
    task = bring(submit(), State.RUNNING, node)
    zombie = again(task)
    task.cancel()
    before = snapshot(task)
    with pytest.raises(Stale):
        call(verb, zombie, node)
    assert snapshot(task) == before


def test_a_second_delivery_starts_nothing(node: Node, submit: Submit) -> None:
    task = bring(submit(), State.ASSIGNED, node)
    doubled = again(task)
    task.start(node)
    before = snapshot(task)
    with pytest.raises(Stale):
        doubled.start(node)
    assert snapshot(task) == before


def test_an_earlier_life_of_the_node_starts_nothing(node: Node, submit: Submit) -> None:
    earlier = Node.objects.get(pk=node.pk)
    new = make_node(node.name)
    task = bring(submit(), State.ASSIGNED, new)
    before = snapshot(task)
    with pytest.raises(Stale):
        task.start(earlier)
    assert snapshot(task) == before
    task.start(new)
    assert task.attempts.get().incarnation == new.incarnation


def test_another_node_starts_nothing(node: Node, submit: Submit) -> None:
    task = bring(submit(), State.ASSIGNED, node)
    before = snapshot(task)
    with pytest.raises(Stale):
        task.start(make_node("cpu@two"))
    assert snapshot(task) == before


def test_the_attempt_names_the_life_of_the_node_that_ran_it(
    node: Node, submit: Submit
) -> None:
    looked = Node.objects.get(pk=node.pk)
    node = make_node(node.name)
    task = bring(submit(), State.ASSIGNED, looked)
    task.start(node)
    assert task.attempts.get().incarnation == node.incarnation


# Wishes that come between


def test_a_cancel_wish_keeps_a_task_from_completing(node: Node, submit: Submit) -> None:
    task = bring(submit(), State.RUNNING, node)
    again(task).request_cancel()
    before = snapshot(task)
    with pytest.raises(Stale):
        task.complete({"done": True})
    assert snapshot(task) == before
    task.cancel()
    assert task.state == State.CANCELLED
    assert task.result == {}


ENDS: dict[str, Callable[[Task], None]] = {
    "fail": lambda task: task.fail("error", "It broke."),
    "fail counted": lambda task: task.fail("connection", "It broke."),
    "fail free": lambda task: task.fail("node_lost", "Gone."),
    "release": lambda task: task.release("worker_stopped", "Stopped."),
    "pause": lambda task: task.pause(),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_cancel_wish_turns_every_other_end_into_cancelled(
    end: str, node: Node, submit: Submit
) -> None:
    task = bring(submit(), State.RUNNING, node)
    again(task).request_pause()
    again(task).request_cancel()
    ENDS[end](task)
    assert (task.state, task.reason) == (State.CANCELLED, "cancelled_by_user")
    assert task.pause_requested_at is None
    assert task.attempts.get().outcome == State.CANCELLED
    assert [event.verb for event in task.events.all()][-1] == "cancel"


@pytest.mark.parametrize("end", ["fail counted", "fail free", "release", "pause"])
def test_a_pause_wish_turns_another_try_into_a_pause(
    end: str, node: Node, submit: Submit
) -> None:
    task = bring(submit(), State.RUNNING, node)
    again(task).request_pause()
    ENDS[end](task)
    assert task.state == State.PAUSED
    assert task.pause_requested_at is None
    assert (task.retries, task.releases) == (0, 0)
    task.resume()
    assert task.state == State.PENDING


@pytest.mark.parametrize("end", ["complete", "fail"])
def test_a_pause_wish_does_not_hold_up_the_end(
    end: str, node: Node, submit: Submit
) -> None:
    task = bring(submit(), State.RUNNING, node)
    again(task).request_pause()
    VERBS[end](task, node)
    assert task.state in (State.COMPLETED, State.FAILED)
    assert task.pause_requested_at is None


# Another try


@pytest.mark.parametrize(
    "reason", [r for r in REASONS if REASONS[r].retry is Retry.FREE]
)
@pytest.mark.parametrize("verb", ["fail", "release"])
def test_a_free_reason_puts_back_at_once_and_takes_no_retry(
    verb: str, reason: str, node: Node, submit: Submit
) -> None:
    task = bring(submit(max_retries=0), State.RUNNING, node)
    getattr(task, verb)(reason, "Gone.")
    assert (task.state, task.reason, task.message) == (State.PENDING, reason, "Gone.")
    in_vain = reason != "no_room"
    assert (task.retries, task.releases, task.not_before) == (0, in_vain, None)
    attempt = task.attempts.get()
    assert (attempt.outcome, attempt.reason) == (State.PENDING, reason)


def test_a_task_that_is_placed_in_vain_too_often_fails(
    node: Node, submit: Submit
) -> None:
    task = submit()
    for _ in range(MAX_RELEASES):
        task.assign(node)
        task.release("node_lost", "Gone.")
        assert task.state == State.PENDING
    task.assign(node)
    task.release("node_lost", "Gone.")
    assert (task.state, task.reason) == (State.FAILED, "node_lost")
    assert str(MAX_RELEASES) in task.message
    task.retry()
    assert task.releases == 0


@pytest.mark.parametrize(
    "reason", [r for r in REASONS if REASONS[r].retry is Retry.COUNTED]
)
def test_a_counted_reason_is_tried_again_after_a_doubling_wait(
    reason: str, node: Node, submit: Submit, time: Clock
) -> None:
    task = submit(max_retries=3)
    for number in range(3):
        bring(task, State.ASSIGNED if number == 1 else State.RUNNING, node)
        task.fail(reason, "Away.")
        assert (task.state, task.retries) == (State.PENDING, number + 1)
        wait = (task.not_before or time()) - time()
        assert 0.8 * BACK_OFF * 2**number <= wait <= 1.2 * BACK_OFF * 2**number
        assert again(task).estimated_start == again(task).not_before
        assert task not in Task.objects.in_line(time())
        time.forward(seconds=wait.total_seconds())
        assert task in Task.objects.in_line(time())
    bring(task, State.RUNNING, node)
    task.fail(reason, "Away.")
    assert (task.state, task.reason, task.message) == (State.FAILED, reason, "Away.")
    assert task.hint == REASONS[reason].hint


def test_the_wait_for_another_try_has_a_ceiling(
    node: Node, submit: Submit, time: Clock
) -> None:
    task = bring(submit(max_retries=500, retries=400), State.RUNNING, node)
    task.fail("connection", "Away.")
    assert task.not_before is not None
    wait = task.not_before - time()
    assert 0.8 * LONGEST_WAIT <= wait <= 1.2 * LONGEST_WAIT


def test_the_waits_of_many_tasks_are_spread(
    node: Node, submit: Submit, time: Clock
) -> None:
    waits = set()
    for _ in range(8):
        task = bring(submit(), State.RUNNING, node)
        task.fail("connection", "Away.")
        waits.add(task.not_before)
    assert len(waits) > 1


@pytest.mark.parametrize(
    "reason", [r for r in REASONS if REASONS[r].retry is Retry.NEVER]
)
def test_a_final_reason_is_never_tried_again(
    reason: str, node: Node, submit: Submit
) -> None:
    task = bring(submit(max_retries=9), State.RUNNING, node)
    task.fail(reason, "It broke.", exit_code=3)
    assert (task.state, task.reason, task.retries) == (State.FAILED, reason, 0)
    attempt = task.attempts.get()
    assert (attempt.outcome, attempt.exit_code) == (State.FAILED, 3)
    assert (attempt.reason, attempt.message) == (reason, "It broke.")


@pytest.mark.parametrize("message", ["", "  \n"])
def test_a_failure_is_never_without_words(
    message: str, node: Node, submit: Submit
) -> None:
    task = bring(submit(), State.RUNNING, node)
    task.fail("error", message)
    assert "error" in task.message


def test_an_unknown_reason_is_refused(node: Node, submit: Submit) -> None:
    task = bring(submit(), State.RUNNING, node)
    before = snapshot(task)
    with pytest.raises(KeyError):
        task.fail("bad_luck", "It broke.")
    assert snapshot(task) == before


@pytest.mark.parametrize("start_over", [True, False])
@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED], ids=str)
def test_a_retry_begins_afresh(
    state: State, start_over: bool, node: Node, submit: Submit, time: Clock
) -> None:
    task = bring(submit(max_retries=1), State.RUNNING, node)
    task.beat(progress={"fraction": 0.5}, metrics={"loss": 1.0})
    task.fail("connection", "Away.")
    time.forward(minutes=1)
    bring(task, State.RUNNING, node)
    if state == State.FAILED:
        task.fail("connection", "Away.")
    else:
        again(task).request_cancel()
        task.cancel()
    assert (task.state, task.retries) == (state, 1)
    task.retry(start_over=start_over)
    assert task.state == State.PENDING
    assert (task.retries, task.releases) == (0, 0)
    assert (task.reason, task.message, task.result) == ("", "", {})
    wishes = (task.cancel_requested_at, task.pause_requested_at)
    assert (*wishes, task.finished_at, task.not_before) == (None,) * 4
    assert task.resume_from == ("start" if start_over else "checkpoint")
    assert task.progress == ({} if start_over else {"fraction": 0.5})
    assert task.attempt == 2
    bring(task, State.COMPLETED, node)
    assert [one.number for one in task.attempts.all()] == [1, 2, 3]


def test_a_put_back_task_goes_on_from_its_checkpoint(
    node: Node, submit: Submit
) -> None:
    task = bring(submit(), State.FAILED, node)
    task.retry(start_over=True)
    bring(task, State.RUNNING, node)
    task.release("node_lost", "Gone.")
    assert task.resume_from == "checkpoint"


def test_an_assignment_leaves_nothing_of_the_last_attempt(
    node: Node, submit: Submit, time: Clock
) -> None:
    task = bring(submit(), State.RUNNING, node)
    task.fail("connection", "Away.")
    time.forward(minutes=1)
    task.assign(node)
    assert (task.started_at, task.beat_at, task.not_before) == (None, None, None)
    assert (task.reason, task.message) == ("", "")
    assert task.assigned_at == task.sent_at == time()
    assert task.celery_id == f"{task.pk}-2"


def test_max_retries_default_to_the_kinds(submit: Submit) -> None:
    assert submit().max_retries == 3
    assert submit(kind="predict", lane="inference").max_retries == 3
    assert submit(max_retries=0).max_retries == 0


@pytest.mark.parametrize("verb", [Life.fail, Life.release])
def test_words_from_outside_are_made_fit_for_every_database(
    verb: Any, node: Node, submit: Submit
) -> None:
    task = bring(submit(), State.RUNNING, node)
    verb(task, "node_lost", "No file /tmp/\udcff\x00.")
    assert again(task).message == "No file /tmp/?."
    assert task.events.get(verb="release").message == "No file /tmp/?."
    assert task.attempts.get().message == "No file /tmp/?."
