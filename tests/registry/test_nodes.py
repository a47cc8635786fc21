from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest

from registry.models import Incident, Node, Stale, Task
from registry.models.node import LOST_AFTER, SUSPECT_AFTER
from registry.resources import GIB, Resources
from registry.states import State
from tests.conftest import Clock, make_node
from tests.registry.lives import again, bring, snapshot

pytestmark = pytest.mark.django_db

Submit = Callable[..., Task]


def test_a_name_tells_lane_and_queue() -> None:
    node = make_node("gpu@lab-3.example", gpus=[{"index": 0}, {"index": 1}])
    assert (node.lane, node.queue) == ("gpu", "gpu.lab-3.example")
    assert node.capacity == Resources(4, 2, 8 * GIB)


def test_registering_again_is_a_new_life_of_the_same_node(time: Clock) -> None:
    node = make_node(cpus=4)
    Node.objects.update(draining=True)
    node.stop()
    time.forward(minutes=5)
    new = make_node(cpus=8)
    assert new.pk == node.pk
    assert new.incarnation != node.incarnation
    new.refresh_from_db()
    assert (new.cpus, new.beat_at, new.registered_at) == (8, time(), time())
    assert new.stopped_at is None
    assert new.draining  # whoever drains it means the machine, not one life of it


def test_a_new_life_gives_back_what_the_old_one_held(
    node: Node, submit: Submit, time: Clock
) -> None:
    assigned = bring(submit(), State.ASSIGNED, node)
    running = bring(submit(), State.RUNNING, node)
    asked_cancel, asked_pause = submit(), submit()
    bring(asked_cancel, State.RUNNING, node).request_cancel()
    bring(asked_pause, State.RUNNING, node).request_pause()
    done = bring(submit(), State.COMPLETED, node)
    elsewhere = bring(submit(), State.RUNNING, make_node("cpu@two"))
    before = snapshot(done), snapshot(elsewhere)
    make_node(node.name)
    states = [
        again(task).state for task in (assigned, running, asked_cancel, asked_pause)
    ]
    assert states == [State.PENDING, State.PENDING, State.CANCELLED, State.PAUSED]
    assert again(running).reason == "node_lost"
    assert (snapshot(done), snapshot(elsewhere)) == before
    assert not node.tasks.filter(state__in=("assigned", "running")).exists()
    incident = Incident.objects.get()
    assert (incident.kind, incident.node) == ("rescue", node.name)
    assert incident.summary == {"found": 4}
    assert "came back under a new incarnation" in incident.message


def test_a_new_life_of_a_node_that_held_nothing_is_no_incident(node: Node) -> None:
    make_node(node.name)
    assert not Incident.objects.exists()


def test_a_first_life_has_nothing_to_give_back(submit: Submit) -> None:
    task = submit()
    make_node()
    assert again(task).state == State.PENDING
    assert [event.verb for event in task.events.all()] == ["submit"]


@pytest.mark.parametrize(
    ("silent", "condition"),
    [
        (0, "up"),
        (14.9, "up"),
        (15, "suspect"),
        (29.9, "suspect"),
        (30, "lost"),
        (3600, "lost"),
    ],
)
def test_its_condition_and_the_queries_agree(
    silent: float, condition: str, node: Node, time: Clock
) -> None:
    time.forward(seconds=silent)
    assert node.condition(time()) == condition
    assert (node in Node.objects.up(time())) == (condition == "up")
    assert (node in Node.objects.lost(time())) == (condition == "lost")


def test_the_limits_are_those_of_the_design() -> None:
    assert (SUSPECT_AFTER.total_seconds(), LOST_AFTER.total_seconds()) == (15, 30)


def test_a_beat_makes_it_up_again(node: Node, time: Clock) -> None:
    time.forward(seconds=40)
    assert node.beat()
    node.refresh_from_db()
    assert node.condition(time()) == "up"


def test_an_earlier_life_beats_and_stops_nothing(node: Node, time: Clock) -> None:
    earlier = Node.objects.get(pk=node.pk)
    new = make_node(node.name)
    time.forward(seconds=20)
    assert not earlier.beat()
    earlier.stop()
    new.refresh_from_db()
    assert new.condition(time()) == "suspect"
    assert new.stopped_at is None
    assert new.beat()


def test_a_stopped_node_is_neither_up_nor_lost(node: Node, time: Clock) -> None:
    node.stop()
    time.forward(hours=1)
    node.refresh_from_db()
    assert node.condition(time()) == "stopped"
    assert not Node.objects.up(time())
    assert not Node.objects.lost(time())


def test_draining_shows_only_while_it_is_up(node: Node, time: Clock) -> None:
    node.draining = True
    assert node.condition(time()) == "draining"
    time.forward(seconds=30)
    assert node.condition(time()) == "lost"


def test_giving_back_counts_what_it_gave(node: Node, submit: Submit) -> None:
    tasks = [bring(submit(), State.RUNNING, node) for _ in range(3)]
    tasks[0].complete({})
    assert node.give_back("worker_stopped", "Stopped.") == 2
    assert {again(task).reason for task in tasks[1:]} == {"worker_stopped"}
    assert node.give_back("worker_stopped", "Stopped.") == 0


def test_what_is_not_gone_stays_with_the_earlier_life(
    node: Node, submit: Submit
) -> None:
    gone = bring(submit(), State.RUNNING, node)
    lives = bring(submit(), State.RUNNING, node)
    make_node(node.name, is_gone=lambda attempt: attempt.task_id == gone.pk)
    assert again(gone).state == State.PENDING
    assert (again(lives).state, again(lives).attempt) == (State.RUNNING, lives.attempt)


def test_an_earlier_life_begins_nothing_more(node: Node, submit: Submit) -> None:
    task = submit()
    task.assign(node)
    make_node(node.name, is_gone=lambda attempt: False)
    with pytest.raises(Stale):
        task.start(node)


def test_what_found_no_room_costs_no_retry_and_no_placement(
    node: Node, submit: Submit
) -> None:
    task = submit()
    Task.objects.update(releases=30)
    task.refresh_from_db()
    task.assign(node)
    task.release("no_room", "The disk is full.", wait=datetime.timedelta(seconds=15))
    assert (task.state, task.releases, task.retries) == (State.PENDING, 30, 0)
    assert task.not_before is not None
