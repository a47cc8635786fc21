from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from registry import discovery
from registry.errors import Problem
from registry.maintenance import expire
from registry.models import Pulse, Service, ServiceEvent
from tests.conftest import client_of
from tests.registry.race import race

pytestmark = pytest.mark.django_db


@pytest.fixture
def register(api):
    def register(port: int = 8000, name: str = "search", **fields: Any) -> Any:
        body = {"service_name": name, "host": "10.0.0.1", "port": port, **fields}
        return api.post("/api/v1/services/register", body, format="json")

    return register


@pytest.fixture
def discover(api):
    def discover(strategy: str = "", name: str = "search") -> Any:
        query = f"?strategy={strategy}" if strategy else ""
        return api.get(f"/api/v1/services/discover/{name}{query}")

    return discover


def states(pk: Any) -> list[str]:
    events = ServiceEvent.objects.filter(instance=pk)
    return list(events.values_list("state", flat=True))


def test_a_new_instance_is_201_with_its_lease(register):
    response = register(version="1.2", metadata={"zone": "a"}, incarnation="one")

    assert response.status_code == 201
    shown = response.data
    assert (shown["lease"], shown["heartbeat_interval"]) == (300, 30)
    assert (shown["incarnation"], bool(shown["registered_at"])) == ("one", True)
    assert response["Location"] == f"/api/v1/services/{shown['service_id']}"
    assert isinstance(shown["service_id"], str)


def test_the_same_address_is_the_same_instance(register, api):
    first = register(incarnation="one").data
    again = register(incarnation="one", version="2")

    assert again.status_code == 200
    assert again.data["service_id"] == first["service_id"]
    assert Service.objects.get().version == "2"
    assert register(port=8001).status_code == 201
    assert register(name="other").status_code == 201
    assert Service.objects.count() == 3


def test_an_incarnation_is_made_for_who_names_none(register):
    assert len(register().data["incarnation"]) == 36


def test_a_restart_is_seen_by_its_incarnation(register, time):
    pk = register(incarnation="one").data["service_id"]
    time.forward(seconds=5)
    register(incarnation="two")

    service = Service.objects.get()
    assert (service.pk, service.incarnation) == (int(pk), "two")
    assert service.registered_at == time.moment
    last = ServiceEvent.objects.last()
    assert last is not None
    assert "new incarnation" in last.message


@pytest.mark.django_db(transaction=True)
def test_registering_twice_at_once_is_one_instance(alice):
    clients = [client_of(alice) for _ in range(4)]
    body = {"service_name": "search", "host": "h", "port": 1}

    def call(client: Any) -> int:
        response = client.post("/api/v1/services/register", body, format="json")
        return int(response.status_code)

    answers = race([lambda client=client: call(client) for client in clients])

    assert sorted(answers) == [200, 200, 200, 201]
    assert Service.objects.count() == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("service_name", ""),
        ("service_name", "a/b"),
        ("service_name", "x" * 101),
        ("host", "http://x"),
        ("host", "a b"),
        ("host", "-x"),
        ("host", ""),
        ("port", 0),
        ("port", 65536),
        ("port", "x"),
        ("metadata", [1]),
        ("metadata", {"a": "x" * 20_000}),
        ("health_path", "health"),
        ("weight", 0),
        ("incarnation", "a b"),
    ],
)
def test_bad_fields_are_named(register, field, value):
    given = {"port": 8000, field: value}
    response = register(**given)
    assert (response.status_code, list(response.data["errors"])) == (422, [field])


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "::1", "[fe80::1]", "db.lab.example", "h_1"]
)
def test_host_names_and_addresses_are_taken(register, host):
    assert register(host=host).status_code == 201


def test_writing_needs_the_scope_registry(alice, register):
    pk = register().data["service_id"]
    reader = client_of(alice, "read", "submit")
    body = {"service_name": "a", "host": "h", "port": 1}

    assert reader.get(f"/api/v1/services/{pk}").status_code == 200
    for response in (
        reader.post("/api/v1/services/register", body, format="json"),
        reader.post(f"/api/v1/services/{pk}/heartbeat"),
        reader.patch(f"/api/v1/services/{pk}", {"state": "up"}, format="json"),
        reader.delete(f"/api/v1/services/{pk}"),
    ):
        assert response.status_code == 403


def test_nobody_speaks_for_the_lines_of_inference_workers(register, api):
    """What is to be predicted would go to whoever did."""
    assert register(name="inference-line").status_code == 403
    own, _ = Service.register(service_name="inference-line", host="node", port=0)
    path = f"/api/v1/services/{own.pk}"
    told = {"metadata": {"socket": "/mine"}}
    assert api.post(f"{path}/heartbeat", told, format="json").status_code == 403
    assert api.delete(path).status_code == 403
    assert Service.objects.get(pk=own.pk).metadata == {}
    assert api.get(path).status_code == 200


def test_a_beat_renews_and_tells(register, api, time):
    pk = register().data["service_id"]
    time.forward(seconds=20)
    told = {"metadata": {"a": 1}, "connections": 7}
    response = api.post(f"/api/v1/services/{pk}/heartbeat", told, format="json")

    assert response.status_code == 200
    service = Service.objects.get()
    assert (service.beat_at, service.connections) == (time.moment, 7)
    assert service.metadata == {"a": 1}
    assert api.post(f"/api/v1/services/{pk}/heartbeat").status_code == 200
    assert Service.objects.get().connections == 7
    below = api.post(
        f"/api/v1/services/{pk}/heartbeat", {"connections": -1}, format="json"
    )
    assert below.status_code == 422


def test_a_beat_of_an_unknown_instance_is_404(api, register):
    pk = register().data["service_id"]
    assert api.delete(f"/api/v1/services/{pk}").status_code == 204
    assert api.post(f"/api/v1/services/{pk}/heartbeat").status_code == 404
    assert api.delete(f"/api/v1/services/{pk}").status_code == 404
    assert register().data["service_id"] != pk


def test_the_list_can_be_filtered(api, register):
    register(1), register(2), register(1, name="other")
    Service.objects.filter(port=2).update(state="down")

    def ports(query: str) -> list[int]:
        results = api.get(f"/api/v1/services{query}").data["results"]
        return [one["port"] for one in results]

    assert ports("") == [1, 2, 1]
    assert ports("?service_name=search") == [2, 1]
    assert ports("?state=down") == [2]
    assert api.get("/api/v1/services?state=odd").status_code == 422


def test_the_history_outlives_the_instance(api, register, time):
    pk = register().data["service_id"]
    api.delete(f"/api/v1/services/{pk}")

    history = api.get(f"/api/v1/services/{pk}/history").data["results"]
    assert [one["state"] for one in history] == ["deregistered", "up"]
    assert {one["address"] for one in history} == {"10.0.0.1:8000"}
    assert api.get("/api/v1/services/999999/history").status_code == 404


def test_silence_makes_suspect_then_down_and_a_beat_brings_it_back(api, register, time):
    pk = register().data["service_id"]
    for silent, state in ((59, "up"), (60, "suspect"), (299, "suspect"), (300, "down")):
        time.moment = Service.objects.get().beat_at
        time.forward(seconds=silent)
        expire()
        assert Service.objects.get().state == state
    api.post(f"/api/v1/services/{pk}/heartbeat")

    assert Service.objects.get().state == "up"
    assert states(pk) == ["up", "suspect", "down", "up"]
    expire()
    assert states(pk) == ["up", "suspect", "down", "up"]


def test_registering_again_brings_it_back_too(register, time):
    pk = register(incarnation="one").data["service_id"]
    time.forward(minutes=5)
    expire()
    register(incarnation="one")
    assert states(pk) == ["up", "down", "up"]


def test_who_is_down_for_a_day_is_removed(register, time):
    pk = register().data["service_id"]
    for _ in range(300):
        time.forward(minutes=5)
        expire()
    assert not Service.objects.exists()
    assert states(pk) == ["up", "down", "deregistered"]


def test_nobody_expires_for_one_lease_after_the_registry_was_away(register, time):
    register()
    expire()
    time.forward(minutes=6)
    expire()
    assert Service.objects.get().state == "up"
    for _ in range(19):
        time.forward(seconds=15)
        expire()
    assert Service.objects.get().state == "up"
    time.forward(seconds=15)
    expire()
    assert Service.objects.get().state == "down"


def test_a_registry_that_was_there_all_the_time_gives_no_grace(register, time):
    Pulse.record("expire")
    register()
    time.forward(minutes=5)
    expire()
    assert Service.objects.get().state == "down"


def test_out_of_service_is_by_hand_and_beats_do_not_end_it(
    api, register, discover, time
):
    pk = register().data["service_id"]

    def put(state: str) -> Any:
        return api.patch(f"/api/v1/services/{pk}", {"state": state}, format="json")

    assert put("out_of_service").data["state"] == "out_of_service"
    assert put("out_of_service").status_code == 200
    api.post(f"/api/v1/services/{pk}/heartbeat")
    register()
    assert discover().status_code == 503
    assert put("up").data["state"] == "up"
    assert discover().status_code == 200
    assert states(pk)[:3] == ["up", "out_of_service", "up"]
    assert put("down").status_code == 422


def test_round_robin_is_even_and_the_default(register, discover):
    for port in (1, 2, 3):
        register(port)
    ports = [discover().data["port"] for _ in range(9)]
    assert ports == [1, 2, 3] * 3
    assert discover("round_robin").data["port"] == 1


def test_a_newcomer_gets_its_share_and_no_more(register, discover):
    register(1), register(2)
    for _ in range(10):
        discover()
    register(3)
    assert Counter(discover().data["port"] for _ in range(9)) == {1: 3, 2: 3, 3: 3}


@pytest.mark.django_db(transaction=True)
def test_round_robin_is_even_over_threads(db):
    for port in (1, 2, 3):
        Service.register(service_name="search", host="h", port=port)

    chosen = race([lambda: discovery.discover("search", "round_robin")] * 12)
    assert Counter(one.port for one in chosen) == {1: 4, 2: 4, 3: 4}


def test_least_connections_takes_the_idlest_for_its_weight(register, discover, api):
    for port, weight in ((1, 1), (2, 1), (3, 4)):
        pk = register(port, weight=weight).data["service_id"]
        told = {"connections": {1: 5, 2: 2, 3: 4}[port]}
        api.post(f"/api/v1/services/{pk}/heartbeat", told, format="json")

    chosen = [discover("least_connections").data["port"] for _ in range(10)]
    assert chosen[:4] == [3, 3, 3, 3]
    assert Counter(chosen) == {3: 8, 2: 2}


def test_random_gives_one_of_those_that_are_up(register, discover):
    for port in (1, 2, 3):
        register(port)
    Service.objects.filter(port=3).update(state="down")
    assert {discover("random").data["port"] for _ in range(40)} == {1, 2}


def test_suspects_are_asked_only_when_nobody_is_up(register, discover):
    for port in (1, 2):
        register(port)
    Service.objects.filter(port=1).update(state="suspect")
    assert {discover().data["port"] for _ in range(4)} == {2}
    Service.objects.filter(port=2).update(state="down")
    assert {discover().data["port"] for _ in range(4)} == {1}


def test_no_instance_is_503_with_retry_after(register, discover):
    register()
    Service.objects.update(state="down")
    response = discover()
    assert (response.status_code, response.data["code"]) == (503, "no_instance")
    assert int(response["Retry-After"]) > 0


def test_a_service_that_nobody_registered_is_not_found(register, discover):
    register()
    response = discover(name="unknown")
    assert (response.status_code, response.data["code"]) == (404, "not_found")


def test_an_unknown_strategy_is_refused(register, discover):
    register()
    response = discover("best")
    assert (response.status_code, list(response.data["errors"])) == (422, ["strategy"])


def test_a_beat_that_comes_between_keeps_the_instance(register, time, monkeypatch):
    register()
    time.forward(minutes=5)
    rows = Service.objects.expired(time.moment)
    seen = list(rows)
    Service.objects.get().beat()
    assert [rows.filter(pk=one.pk).update(state="down") for one in seen] == [0]


def test_discovery_says_which_service_has_nobody(db):
    with pytest.raises(Problem, match="No instance of search is registered"):
        discovery.discover("search", "random")
