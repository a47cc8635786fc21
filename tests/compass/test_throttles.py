"""Who asks too often is told so and how long to wait; nobody else notices."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from hypothesis import given
from hypothesis import strategies as st

from compass import heads, throttles
from compass.admission import Admission
from compass.rates import Rule, read
from compass.throttles import KEYED, Throttles
from tests.compass.fronts import DJANGO, PREDICT, Running
from tests.compass.test_lanes import GOOD, answers, raw_request
from tests.inference.conftest import cache, tiny_recipe  # noqa: F401

TASKS = "/api/v1/tasks"


def head(line: str, **fields: str) -> bytes:
    lines = [line, *(f"{name.replace('_', '-')}: {v}" for name, v in fields.items())]
    return "\r\n".join(lines).encode()


def asks(one: Throttles, what: bytes, *moments: float) -> list[float | None]:
    found = [one.ask(what, "192.0.2.1", at) for at in moments]
    return [None if refusal is None else round(refusal.wait, 6) for refusal in found]


GET = head(f"GET {TASKS}?limit=5 HTTP/1.1", Authorization="Bearer one")


def test_as_many_as_the_rate_says_go_at_once_and_then_one_each_interval() -> None:
    one = Throttles(read(["read=3/m"]))
    assert asks(one, GET, 0, 0, 0, 0, 10) == [None, None, None, 20, 10]
    assert asks(one, GET, 20, 20, 40, 1000, 1000, 1000, 1000) == [
        None, 20, None, None, None, None, 20,
    ]  # fmt: skip


@given(st.lists(st.floats(0, 3), max_size=60), st.integers(1, 20))
def test_no_more_than_twice_the_rate_goes_in_any_period(
    gaps: list[float], number: int
) -> None:
    one, now, let_in = Throttles([Rule("read", number, "s")]), 0.0, list[float]()
    for gap in gaps:
        now += gap / number
        if one.ask(GET, "", now) is None:
            let_in.append(now)
        assert sum(now - 1 < at <= now for at in let_in) <= 2 * number


def test_reads_are_counted_apart_from_writes_and_keys_from_each_other() -> None:
    one = Throttles(read(["read=1/s", "write=1/s"]))
    post = head(f"POST {TASKS} HTTP/1.1", authorization="bearer one")
    other = head(f"GET {TASKS} HTTP/1.1", X_API_Key="two")
    nobody = head(f"GET {TASKS} HTTP/1.1")
    for what in (GET, post, other, nobody):
        assert asks(one, what, 0, 0) == [None, 1]
    assert one.ask(nobody, "192.0.2.2", 0) is None
    by_name = head(f"HEAD {TASKS} HTTP/1.1", x_api_key="one")
    assert asks(one, by_name, 0) == [1]
    for what in (
        head(f"get {TASKS}?\xe4 HTTP/1.1", X_API_Key="one"),
        f"GET {TASKS} HTTP/1.1\r\nx_api_key: one".encode(),
        f"GET {TASKS} HTTP/1.1\r\nAuthorization: Bearer \xff\r\nX-API-Key: one".encode(),
    ):
        assert asks(one, what, 0) == [1]


def test_a_route_of_its_own_is_counted_apart_with_all_below_it() -> None:
    one = Throttles(read(["read=1/s", "/api/v1/models=2/s", "/api/v1/models/a=1/h"]))
    get = "GET {} HTTP/1.1".format
    assert asks(one, head(get(TASKS)), 0, 0) == [None, 1]
    assert asks(one, head(get("/api/v1/models/b?x=1")), 0) == [None]
    assert asks(one, head(get("/api/v1/%6dodels")), 0, 0) == [None, 0.5]
    for address in ("http://h:1/api/v1/models", "a+b.c://h/api/v1/models#/x"):
        assert asks(one, head(get(address)), 0) == [0.5]
    assert asks(one, head(get("/api/v1/models/a/versions")), 0, 0) == [None, 3600]
    assert asks(one, head(get("/api/v1/modelsx")), 0) == [1]


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/metrics", "/admin/"])
def test_health_and_pages_are_not_counted(path: str) -> None:
    one = Throttles(read(["read=1/h"]))
    assert asks(one, head(f"GET {path} HTTP/1.1"), 0, 0, 0) == [None] * 3


def test_who_invents_keys_makes_room_for_no_request_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(throttles, "MOST", 10)
    one = Throttles(read(["read=5/h"]))
    assert asks(one, GET, 0, 0, 0, 0, 0) == [None] * 5
    for number in range(100):
        asks(one, head(f"GET {TASKS} HTTP/1.1", x_api_key=f"k{number}"), 1)
    assert len(one._due) <= 10
    assert asks(one, GET, 1) == [719]


@pytest.mark.parametrize(
    ("path", "rate"),
    [
        ("/api/schema", "read=2/h"),
        ("/api/docs", "read=2/h"),
        ("http://h/%61pi/docs?a", "read=2/h"),
        ("/admin/login/", "/admin=2/h"),
    ],
)
def test_who_invents_keys_reads_no_more_of_a_page_that_needs_none(
    path: str, rate: str
) -> None:
    one = Throttles(read([rate]))
    get = f"GET {path} HTTP/1.1"
    assert asks(one, head(get), 0) == [None]
    assert asks(one, head(get, x_api_key="a"), 0) == [None]
    refused = one.ask(head(get, authorization="Bearer b"), "192.0.2.1", 0)
    assert refused is not None
    assert refused.by == "address"
    assert one.ask(head(get, x_api_key="a"), "192.0.2.2", 0) is None


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8:1:2::3", "2001:db8:1:2:ffff::4", True),
        ("2001:db8:1:2::3", "2001:db8:1:3::3", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "", True),
    ],
)
def test_whom_a_network_was_given_has_one_allowance_for_all_its_addresses(
    one: str, other: str, is_same: bool
) -> None:
    some = Throttles(read(["read=1/h"]))
    get = b"GET /api/docs HTTP/1.1\r\n\r\n"
    assert Admission(some, one).ask(get) is None
    assert (Admission(some, other).ask(get) is not None) == is_same


@pytest.mark.django_db
def test_nothing_is_open_to_an_invented_key_where_keys_are_counted(
    client: Client,
) -> None:
    paths = SchemaGenerator().get_schema(public=True)["paths"]
    assert len(paths) > 50
    for path, methods in paths.items():
        assert path.startswith(KEYED)
        for method in methods:
            address = re.sub(r"{\w+}", "1", path)
            response = client.generic(
                method.upper(), address, headers={"X-API-Key": "no"}
            )
            assert response.status_code == 401, (method, path)


@pytest.mark.parametrize(
    "text", ["read", "read=0/s", "read=1/w", "fast=1/s", "read=1", "models=1/s", ""]
)
def test_a_rate_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not like read=100/s"):
        read([text])


def test_a_name_stands_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        read(["read=1/s", "read=2/s"])


@pytest.mark.parametrize(
    "field",
    [b"X-Request-ID:" + b" " * 8000 + b"\n", b"X-Request-ID: a" + b" " * 8000 + b"b"],
)
def test_an_odd_id_of_a_request_is_soon_read(field: bytes) -> None:
    begin = time.process_time()
    assert heads.request_id(b"GET / HTTP/1.1\r\n" + field) == ""
    assert heads.request_id(GET + b"\r\nX-Request-Id: \t mine ") == "mine"
    assert time.process_time() - begin < 0.5


@pytest.mark.parametrize("target", ["/" + "a" * 60_000, "a" * 60_000, ":" * 60_000])
def test_a_long_address_is_soon_read(target: str) -> None:
    begin = time.process_time()
    asks(Throttles(read(["read=1/s"])), head(f"GET {target} HTTP/1.1"), 0)
    assert time.process_time() - begin < 0.5


# Over a front

Limit = Callable[[list[str]], Running]


def tasks(bearer: dict[str, str]) -> str:
    fields = f"Host: localhost\r\nAuthorization: {bearer['Authorization']}\r\n"
    return f"GET {TASKS} HTTP/1.1\r\n{fields}\r\n"


@pytest.fixture
def limited(live_server: Any, front: Running) -> Limit:
    def limit(rates: list[str]) -> Running:
        front.front.throttles = Throttles(read(rates))
        return front

    assert settings.ENVIRONMENT.throttles == []
    return limit


@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
class TestFront:
    @pytest.mark.usefixtures("inference", "version")
    def test_both_lanes_are_counted_together_and_refuse_alike(
        self, limited: Limit, bearer: dict[str, str]
    ) -> None:
        front = limited([f"{PREDICT}=4/h"])
        found = [front.ask(GOOD, bearer, path) for path in (PREDICT, DJANGO) * 2]
        assert [one.status for one in found] == [200] * 4
        for path in (PREDICT, DJANGO):
            one = front.ask(GOOD, {**bearer, "X-Request-ID": "mine"}, path)
            assert (one.status, one.body["code"]) == (429, "throttled")
            assert one.body["request_id"] == one.headers["x-request-id"] == "mine"
            assert 800 < int(one.headers["retry-after"]) <= 900
            text = f"More than 4 requests to {PREDICT} per hour by one key."
            assert one.body["detail"] == text
        assert front.ask(GOOD, {"Authorization": "Bearer cmp_no"}).status == 401

    def test_a_connection_that_asks_much_at_once_gets_no_more_than_others(
        self, limited: Limit, bearer: dict[str, str]
    ) -> None:
        front = limited(["read=3/h"])
        one = tasks(bearer).encode()
        with socket.create_connection(("127.0.0.1", front.port), 30) as link:
            link.sendall(one)
            link.sendall(one + one)
            link.sendall(one)
            assert answers(link, 4) == [200, 200, 200, 429]
            assert link.recv(1) == b""
        with socket.create_connection(("127.0.0.1", front.port), 30) as link:
            link.sendall(b"\r\n" + one)
            assert answers(link, 1) == [429]

    @pytest.mark.parametrize(
        "first",
        [
            "GET /health HTTP/1.1\nHost: localhost\n\n",
            "GET /health HTTP/1.1\r\nHost: localhost\r\n\n",
            "GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            f"GET {TASKS} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: no\r\nUpgrade: x\r\n\r\n",
            "POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        ],
    )
    def test_no_request_hides_behind_another(
        self,
        limited: Limit,
        bearer: dict[str, str],
        first: str,
    ) -> None:
        front = limited(["read=2/h"])
        with socket.create_connection(("127.0.0.1", front.port), 30) as link:
            link.sendall((first + tasks(bearer) * 5).encode())
            found = []
            while content := link.recv(100_000):
                found.append(content)
        assert b"".join(found).count(b'"results"') <= 2

    def test_no_answer_is_torn_where_the_client_writes_no_more(
        self, bearer: dict[str, str]
    ) -> None:
        get = f"GET {TASKS} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
        with socket.create_server(("127.0.0.1", 0)) as django:
            django.settimeout(30)
            front = Running().begin(django.getsockname())
            front.front.throttles = Throttles(read(["read=2/h"]))
            try:
                with socket.create_connection(("127.0.0.1", front.port), 30) as link:
                    link.sendall(get * 2)
                    behind, _ = django.accept()
                    with behind:
                        assert behind.recv(1000) == get
                        behind.sendall(answer + b"01234")
                        found = link.recv(1000)
                        link.shutdown(socket.SHUT_WR)
                        time.sleep(0.2)
                        behind.sendall(b"56789")
                        assert behind.recv(1000) == get
                        behind.sendall(answer + b"abcdefghij")
                        while content := link.recv(1000):
                            found += content
            finally:
                front.end()
        assert found == answer + b"0123456789" + answer + b"abcdefghij"

    def test_pipelined_requests_are_answered_before_the_server_is_stopped(
        self, limited: Limit, bearer: dict[str, str]
    ) -> None:
        front = limited(["read=9/h"])
        with socket.create_connection(("127.0.0.1", front.port), 30) as link:
            link.sendall(tasks(bearer).encode() * 5)
            wait = link.recv(1, socket.MSG_PEEK)
            front.loop.call_soon_threadsafe(front.stop.set)
            assert wait
            assert answers(link, 5) == [200] * 5

    def test_who_sends_a_large_body_reads_the_refusal(
        self, limited: Limit, bearer: dict[str, str]
    ) -> None:
        front = limited(["write=1/h"])
        path = "/api/v1/training/tasks"
        assert front.ask({}, bearer, path).status == 403  # its key may not submit
        link = front.connect()
        large = json.dumps({"a": "b" * 20_000_000}).encode()
        link.request(
            "POST", path, large, {**bearer, "Content-Type": "application/json"}
        )
        assert link.getresponse().status == 429
        link.close()

    @pytest.mark.usefixtures("inference", "version")
    def test_a_refused_connection_is_closed_and_others_go_on(
        self, limited: Limit, bearer: dict[str, str]
    ) -> None:
        front = limited(["read=1/h"])
        link = front.connect()
        statuses = []
        for _ in range(2):
            link.request("GET", TASKS, headers=bearer)
            response = link.getresponse()
            response.read()
            statuses.append(response.status)
        assert statuses == [200, 429]
        assert front.ask(GOOD, bearer).status == 200
        link.request("GET", "/health")
        assert link.getresponse().status == 200

    @pytest.mark.usefixtures("inference", "version")
    def test_predictions_in_one_piece_are_counted_one_by_one(
        self, limited: Limit, bearer: dict[str, str]
    ) -> None:
        front = limited(["write=2/h"])
        body = json.dumps(GOOD).encode()
        with socket.create_connection(("127.0.0.1", front.port), 30) as link:
            link.sendall(raw_request(bearer, body) * 3)
            assert answers(link, 3) == [200, 200, 429]
