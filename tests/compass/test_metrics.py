"""What Prometheus reads, and who may."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from compass.lookups import Database
from compass.nearness import is_near, own_address
from compass.rates import read
from compass.throttles import Throttles
from inference import traffic, worker
from inference.traffic import Counter
from registry.models import ModelVersion, Node, Task, Traffic
from registry.states import State
from tests.compass.fronts import PREDICT, Running
from tests.compass.test_lanes import GOOD, answers
from tests.conftest import Clock
from tests.inference.conftest import cache, tiny_recipe  # noqa: F401
from tests.registry.lives import bring

TOTAL = "refused_total"
LOOPBACK = [ipaddress.ip_network(one) for one in ("127.0.0.0/8", "::1")]


def figures(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name.removeprefix("compass_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.django_db
def test_tasks_nodes_and_requests_are_told(
    client: Client,
    node: Node,
    submit: Callable[..., Task],
    time: Clock,
) -> None:
    settings.DATA_DIR.mkdir()
    bring(submit(cpus=2), State.RUNNING, node)
    submit()
    time.forward(seconds=4)
    traffic.note(0.25, 503)
    before = figures(client.get("/metrics").content.decode())
    for counter in traffic.HERE.values():
        counter.write(counter.take())
    response = client.get("/metrics")
    assert response["Content-Type"].startswith("text/plain; version=0.0.4")
    found = figures(response.content.decode())
    kind, lane = Task.objects.values_list("kind", "lane")[0]
    assert found["tasks", kind, lane, "running"] == 1
    assert found["tasks", kind, lane, "pending"] == 1
    assert found["oldest_waiting_seconds", lane] == 4
    assert found["node_cpus", node.name, "offered"] == node.cpus
    assert found["node_cpus", node.name, "used"] == 2
    assert found["node_state", node.name, "up"] == 1
    assert found["node_beat_age_seconds", node.name] == 4
    assert found["part_up", "database"] == 1
    assert found["disk_free_bytes",] > 0
    assert not any(name == "untold" for name, *_ in found)
    assert found["request_errors_total", "django"] >= 1
    assert found["requests_total", "rest"] > before["requests_total", "rest"]


@pytest.mark.django_db
def test_what_cannot_be_told_does_not_hide_the_rest(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OperationalError("away")

    monkeypatch.setattr(Task.objects, "filter", fail)
    found = figures(client.get("/metrics").content.decode())
    assert found["untold", "tasks"] == found["untold", "disk"] == 1
    assert ("requests_total", "rest") in found


@pytest.mark.django_db
def test_a_database_that_is_away_is_waited_for_once(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def fail(*_: Any, **__: Any) -> Any:
        tries.append(1)
        raise OperationalError("away")

    monkeypatch.setattr(connection, "cursor", fail)
    found = figures(client.get("/metrics").content.decode())
    assert len(tries) == 1
    assert found["part_up", "database"] == found["part_up", "beat"] == 0
    for part in ("tasks", "nodes", "inference", "requests", "refused", "kept"):
        assert found["untold", part] == 1


@pytest.mark.django_db
def test_a_count_does_not_fall_while_it_is_written(client: Client) -> None:
    def count() -> float:
        return figures(client.get("/metrics").content.decode())[
            "requests_total", "rest"
        ]

    counter = traffic.HERE[traffic.REST]
    counter.write(counter.take())
    traffic.note(0.1, 200, traffic.REST)
    before, taken = count(), counter.take()
    assert count() == before
    counter.write(taken)
    assert count() > before


@pytest.mark.django_db(transaction=True)
def test_what_the_front_refuses_is_told_by_code_and_rate(
    client: Client,
    front: Running,
    inference: worker.Worker,
    version: ModelVersion,
    bearer: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused() -> dict[tuple[str, ...], float]:
        found = figures(client.get("/metrics").content.decode())
        return {tuple(at): n for (name, *at), n in found.items() if name == TOTAL}

    rules = read([f"{PREDICT}=2/h", "read=1/h"])
    monkeypatch.setattr(
        settings, "ENVIRONMENT", replace(settings.ENVIRONMENT, throttles=rules)
    )
    front.front.throttles = Throttles(rules)
    nothing = {("throttled", rule.name, "429"): 0 for rule in rules}
    nothing |= {("malformed", "", "400"): 0, ("busy", "", "503"): 0}
    Traffic.objects.filter(name=traffic.REFUSED).delete()  # another test's
    assert refused() == nothing
    assert [front.ask(GOOD, bearer).status for _ in range(5)] == [200] * 2 + [429] * 3
    with socket.create_connection(("127.0.0.1", front.port), 30) as link:
        link.sendall(b"GET /health HTTP/1.1\n\n")
        assert answers(link, 1) == [400]
    front.end()
    assert refused() == nothing | {
        ("throttled", PREDICT, "429"): 3, ("malformed", "", "400"): 1,
    }  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_answers_and_refusals_of_one_second_are_both_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = []

    class Slow:
        def submit(self, write: Any, figures: Any) -> Future[object]:
            taken.append(figures)
            return Future()

    database = Database()
    answered, refused = Counter(traffic.RAW), Counter(traffic.REFUSED)
    with monkeypatch.context() as patch:
        patch.setattr(database, "_writing", Slow())
        for _ in range(2):
            answered.tally.add(0.1)
            refused.note({"busy": {"": 1}})
            database.write([answered, refused])
    database.close()
    assert [one.get("count") or one for one in taken] == [1, {"busy": {"": 1}}]


@pytest.mark.django_db
def test_only_addresses_that_are_named_may_read(client: Client) -> None:
    for address, status in (("192.0.2.1", 403), ("::1", 200), ("127.9.9.9", 403)):
        response = client.get("/metrics", REMOTE_ADDR=address)
        assert response.status_code == status
    assert (
        response.json()["code"] == "forbidden" if response.status_code != 200 else True
    )
    assert client.post("/metrics").status_code == 405


def test_the_front_tells_django_whether_the_client_is_one_of_them() -> None:
    for near in (True, False):
        address = own_address(is_near=near)
        assert is_near(address, []) is near
        assert ipaddress.ip_address(address).is_loopback
    assert is_near("::ffff:127.0.0.1", LOOPBACK)
    assert not is_near("", LOOPBACK)
    assert not is_near("192.0.2.7", LOOPBACK)
    assert is_near("192.0.2.7", [ipaddress.ip_network("192.0.2.0/24")])


@pytest.mark.django_db(transaction=True)
def test_a_client_of_the_front_is_known_by_its_own_address(front: Running) -> None:
    def status() -> tuple[int, Any]:
        link = front.connect()
        link.request("GET", "/metrics")
        response = link.getresponse()
        found = response.status, response.read()
        link.close()
        return found

    assert status()[0] == 200
    front.front.near = [ipaddress.ip_network("192.0.2.0/24")]
    code, content = status()
    assert (code, b"COMPASS_METRICS_ALLOW" in content) == (403, True)
