"""Predictions by the raw lane and by Django's are the same answers, whatever is asked."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from compass import heads, visitor
from compass.api import HasScope, StrictJSONParser
from inference import traffic, worker
from inference.views import Predict
from registry import versions
from registry.models import ApiKey, ModelVersion, Node
from tests.compass.fronts import DJANGO, PREDICT, Running
from tests.inference import onnx_files, tiny
from tests.inference.conftest import cache, tiny_recipe  # noqa: F401

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


GOOD = {"model": "tiny", "inputs": [{"x": 1}]}
TABLE: dict[str, tuple[Any, dict[str, str], bool]] = {
    # body, headers beside the key, whether the raw lane answers it itself
    "good": (GOOD, {}, True),
    "by number": ({"model": "tiny:1", "inputs": [{"x": 2}, {"x": 3}]}, {}, True),
    "inputs first": (b'{ "inputs" : [ {"x": 1} ] , "model" : "tiny" }', {}, True),
    "some bad items": (
        {"model": "tiny", "inputs": [{"x": 1}, {"x": "a"}, 3, None, {"x": 13}]}, {}, True,
    ),
    "letters": ('{"model": "tiny", "inputs": [{"x": "äöü€😀"}]}'.encode(), {}, True),
    "accepts all": (GOOD, {"Accept": "application/json, */*"}, True),
    "accepts indented": (GOOD, {"Accept": "application/json; indent=4"}, False),
    "accepts indented or all": (GOOD, {"Accept": "*/*, application/json;indent=2"}, False),
    "named request": (GOOD, {"X-Request-ID": "abc-1"}, True),
    "odd request id": (GOOD, {"X-Request-ID": "a b"}, True),
    "with charset": (GOOD, {"Content-Type": "application/json; charset=utf-8"}, True),
    "no model": ({"inputs": [{"x": 1}]}, {}, False),
    "escapes": (b'{"model": "tiny", "inputs": [{"x": "\\u0041"}]}', {}, True),
    "surrogate": (b'{"model": "tiny", "inputs": [{"x": "\\ud800"}]}', {}, False),
    "nul": (b'{"model": "tiny", "inputs": [{"x": "\\u0000"}]}', {}, False),
    "nan": (b'{"model": "tiny", "inputs": [{"x": NaN}]}', {}, False),
    "infinite": (b'{"model": "tiny", "inputs": [{"x": 1e999}]}', {}, False),
    "long number": (b'{"model": "tiny", "inputs": [{"x": ' + b"9" * 5000 + b"}]}", {}, False),
    "deep": (
        b'{"model": "tiny", "inputs": [' + b"[" * 100 + b"]" * 100 + b"]}", {}, False,
    ),
    "half": (b'{"model": "tiny", "inputs": [{"x": 1}', {}, False),
    "two models": (
        b'{"model": "tiny", "inputs": [{"x": 1}], "model": "tiny"}', {}, False,
    ),
    "smuggled": (
        b'{"model": "tiny", "inputs": [{"x": 1}], "z": [{"x": 2}]}', {}, False,
    ),
    "unknown field": ({**GOOD, "extra": 1}, {}, False),
    "empty inputs": ({"model": "tiny", "inputs": []}, {}, False),
    "no list": ({"model": "tiny", "inputs": {"x": 1}}, {}, False),
    "too many": ({"model": "tiny", "inputs": [1] * 1001}, {}, False),
    "unknown model": ({"model": "none", "inputs": [{"x": 1}]}, {}, False),
    "unknown version": ({"model": "tiny:9", "inputs": [{"x": 1}]}, {}, False),
    "unknown alias": ({"model": "tiny@x", "inputs": [{"x": 1}]}, {}, False),
    "odd model": ({"model": "../x", "inputs": [{"x": 1}]}, {}, False),
    "a list": (b"[1]", {}, False),
    "no json": (b"hello", {}, False),
    "not utf-8": (b'{"model": "tiny", "inputs": [{"x": "\xff"}]}', {}, False),
    "another type": (GOOD, {"Content-Type": "text/plain"}, False),
    "accepts pictures": (GOOD, {"Accept": "image/png"}, False),
    "wrong key": (GOOD, {"Authorization": "Bearer cmp_no"}, False),
    "no key": (GOOD, {"Authorization": ""}, False),
    "key by another name": (GOOD, {"Authorization": "", "X-API-Key": "KEY"}, True),
    "wrong host": (GOOD, {"Host": "evil.example"}, False),
    "one of a list": ({"model": ["tiny"], "inputs": [{"x": 1}]}, {}, True),
    "list, twice the same": ({"model": ["tiny", "tiny"], "inputs": [{"x": 1}]}, {}, True),
    "list, inputs first": (b'{"inputs": [{"x": 1}],\n"model" : [ "tiny:1" , "b" ]}', {}, True),
    "list, the first unknown": ({"model": ["none", "tiny"], "inputs": [{"x": 1}]}, {}, True),
    "list, none known": (
        {"model": ["none", "tiny:9", "tiny@x"], "inputs": [{"x": 1}]}, {}, True,
    ),
    "list, one unknown": ({"model": ["none"], "inputs": [{"x": 1}]}, {}, True),
    "list, bad items": ({"model": ["tiny", "tiny:1"], "inputs": [{"x": "a"}]}, {}, True),
    "list, odd address": ({"model": ["tiny", "../x"], "inputs": [{"x": 1}]}, {}, False),
    "list, empty": ({"model": [], "inputs": [{"x": 1}]}, {}, False),
    "list, too long": ({"model": ["tiny"] * 9, "inputs": [{"x": 1}]}, {}, False),
    "list, a number": ({"model": ["tiny", 1], "inputs": [{"x": 1}]}, {}, False),
    "list, nan in items": (b'{"model": ["none", "tiny"], "inputs": [{"x": NaN}]}', {}, False),
    "an object as model": ({"model": {"tiny": 1}, "inputs": [{"x": 1}]}, {}, False),
    "key": ({**GOOD, "key": "user 7"}, {}, True),
    "key first": ({"key": "7", **GOOD}, {}, True),
    "key between": ({"model": "tiny", "key": "7", "inputs": [{"x": 1}]}, {}, True),
    "key and list": ({"key": "7", "model": ["x", "tiny"], "inputs": [{"x": 1}]}, {}, True),
    "letters in a key": ('{"model": "tiny", "inputs": [{"x": 1}], "key": "ä"}'.encode(), {}, False),
    "escapes in a key": (b'{"model": "tiny", "inputs": [{"x": 1}], "key": "\\u0041"}', {}, False),
    "empty key": ({**GOOD, "key": ""}, {}, False),
    "long key": ({**GOOD, "key": "k" * 201}, {}, False),
    "a number as key": ({**GOOD, "key": 7}, {}, False),
    "two keys": (b'{"key": "1", "model": "tiny", "inputs": [{"x": 1}], "key": "2"}', {}, False),
    "key without a model": ({"inputs": [{"x": 1}], "key": "7"}, {}, False),
    "smuggled key": (
        b'{"model": "tiny", "inputs": [{"x": 1}], "z": [1], "key": "7"}', {}, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_both_lanes_answer_alike(
    case: str,
    front: Running,
    inference: worker.Worker,
    version: ModelVersion,
    key: str,
    bearer: dict[str, str],
) -> None:
    body, headers, is_raw = TABLE[case]
    headers = bearer | {k: v.replace("KEY", key) for k, v in headers.items()}
    raw = front.ask(body, headers)
    django = front.ask(body, headers, DJANGO)
    assert not django.is_raw_lane
    assert raw.is_raw_lane is is_raw, raw
    assert raw.without_its_own() == django.without_its_own()
    if "indented" in case:
        assert raw.raw.count(b"\n") == django.raw.count(b"\n") > 0
    assert raw.headers["x-request-id"]
    if case == "named request":
        assert raw.headers["x-request-id"] == "abc-1"


BROKEN = {"config": {"recipe": "tiny", "params": {"broken": 1}}}


def test_both_lanes_fall_back_alike_from_what_cannot_load(
    front: Running,
    inference: worker.Worker,
    version: ModelVersion,
    bearer: dict[str, str],
) -> None:
    tiny.make_version("broken", 3.0, **BROKEN)
    body = {"model": ["broken", "tiny"], "inputs": [{"x": 1}]}
    raw, django = front.ask(body, bearer), front.ask(body, bearer, DJANGO)
    assert raw.is_raw_lane
    assert raw.without_its_own() == django.without_its_own()
    assert (raw.body["model"], raw.body["version"]) == ("tiny", 1)
    (passed,) = raw.body["fell_back"]
    assert (passed["model"], passed["code"]) == ("broken", "model_unavailable")


def test_both_lanes_say_alike_that_none_can_be_served(
    front: Running,
    inference: worker.Worker,
    version: ModelVersion,
    bearer: dict[str, str],
) -> None:
    tiny.make_version("broken", 3.0, **BROKEN)
    body = {"model": ["none", "broken"], "inputs": [{"x": 1}]}
    raw, django = front.ask(body, bearer), front.ask(body, bearer, DJANGO)
    assert raw.headers["retry-after"] == "5"
    assert raw.is_raw_lane
    assert raw.without_its_own() == django.without_its_own()
    assert (raw.status, raw.body["code"]) == (503, "model_unavailable")
    assert "none: There is no model" in raw.body["detail"]


def test_bad_items_and_failed_predictions_are_no_reason_to_fall_back(
    front: Running, inference: worker.Worker, version: ModelVersion, bearer: Any
) -> None:
    body = {"model": ["tiny", "none"], "inputs": [{"z": 1}, {"x": 666}]}
    for path in (PREDICT, DJANGO):
        answer = front.ask(body, bearer, path)
        assert answer.body["fell_back"] == []
        codes = [one["error"]["code"] for one in answer.body["outputs"]]
        assert codes == ["bad_item", "internal"]


def test_no_lane_has_throttles_permissions_or_parsers_of_its_own() -> None:
    view = Predict()
    assert view.get_throttles() == []  # the raw lane knows of none
    assert [type(one) for one in view.get_permissions()] == [HasScope]
    assert [type(one) for one in view.get_parsers()] == [StrictJSONParser]
    assert view.scopes == {"POST": "predict"}


def test_the_answers_of_both_lanes_are_counted(
    front: Running, inference: worker.Worker, version: ModelVersion, bearer: Any
) -> None:
    def counts() -> Any:
        link = front.connect()
        link.request("GET", "/api/v1/inference/status", headers=bearer)
        body = json.loads(link.getresponse().read())["requests"]
        link.close()
        return body

    traffic.HERE[
        traffic.DJANGO
    ].take()  # of tests before this one, as what they have written
    before = counts()["django"]
    for _ in range(3):
        assert front.ask(GOOD, bearer).is_raw_lane
    front.ask(GOOD, bearer, DJANGO)
    front.ask({**GOOD, "extra": 1}, bearer)
    front.ask(GOOD, {"Authorization": "Bearer cmp_no"})
    until(lambda: counts()["raw"]["count"] == 3)
    found = counts()
    assert found["raw"]["errors"] == 0
    assert 0 < found["raw"]["p50"] <= found["raw"]["p99"]
    new = {name: found["django"][name] - before[name] for name in ("count", "errors")}
    assert new == {"count": 3, "errors": 2}


def test_both_lanes_refuse_alike_what_cannot_be_served(
    front: Running,
    inference: worker.Worker,
    version: ModelVersion,
    bearer: dict[str, str],
) -> None:
    tiny.make_version("broken", 3.0, **BROKEN)
    body = {"model": "broken", "inputs": [{"x": 1}]}
    raw, django = front.ask(body, bearer), front.ask(body, bearer, DJANGO)
    assert (raw.status, raw.body["code"]) == (503, "model_unavailable")
    assert raw.headers["retry-after"] == "5"
    assert raw.is_raw_lane
    assert raw.without_its_own() == django.without_its_own()


def test_an_onnx_model_is_answered_alike_by_both_lanes(
    front: Running, inference: worker.Worker, bearer: dict[str, str]
) -> None:
    onnx_files.make_version()
    row = [0.5] * onnx_files.WIDTH
    items = [{"x": row}, {"x": [1, 2]}, {"x": [True, *row[1:]]}, {"x": row, "z": 1}, 3]
    body = {"model": "net", "inputs": items}
    raw, django = front.ask(body, bearer), front.ask(body, bearer, DJANGO)
    assert raw.is_raw_lane
    assert raw.without_its_own() == django.without_its_own()
    assert ["error" in one for one in raw.body["outputs"]] == [False, *[True] * 4]


def test_without_a_worker_both_say_so(
    front: Running, version: ModelVersion, bearer: dict[str, str]
) -> None:
    raw, django = front.ask(GOOD, bearer), front.ask(GOOD, bearer, DJANGO)
    assert (raw.status, raw.body["code"]) == (503, "no_worker")
    assert raw.without_its_own() == django.without_its_own()


def test_a_key_without_the_scope_is_refused_alike(
    front: Running, inference: worker.Worker, version: ModelVersion, alice: User
) -> None:
    weak = ApiKey.make(alice, "weak", ("read", "submit", "admin"))[1]
    headers = {"Authorization": f"Bearer {weak}"}
    raw, django = front.ask(GOOD, headers), front.ask(GOOD, headers, DJANGO)
    assert raw.status == 403
    assert raw.without_its_own() == django.without_its_own()


def test_a_revoked_key_is_refused_at_once(
    front: Running, inference: worker.Worker, version: ModelVersion, bearer: Any
) -> None:
    for _ in range(3):
        assert front.ask(GOOD, bearer).status == 200
    ApiKey.objects.update(revoked_at="2026-01-01T00:00:00Z")
    assert front.ask(GOOD, bearer).status == 401


def test_the_use_of_a_key_is_noted(
    front: Running, inference: worker.Worker, version: ModelVersion, bearer: Any
) -> None:
    assert front.ask(GOOD, bearer).is_raw_lane
    assert ApiKey.objects.get().last_used_at is not None


def test_an_alias_that_moved_is_never_answered_by_the_old_version(
    front: Running, inference: worker.Worker, version: ModelVersion, bearer: Any
) -> None:
    versions = [version, tiny.make_version("tiny", 7.0, owner=version.owner)]
    version.model.point("champion", version)
    link, stop, wrong = front.connect(), threading.Event(), []
    body = {"model": "tiny@champion", "inputs": [{"x": 1}]}

    def disturb() -> None:
        own = front.connect()
        while not stop.is_set():
            if front.ask(body, bearer, link=own).status != 200:
                wrong.append("a request failed")
        own.close()

    others = [threading.Thread(target=disturb) for _ in range(4)]
    for one in others:
        one.start()
    try:
        for n in range(30):
            target = versions[n % 2]
            target.model.point("champion", target)
            answer = front.ask(body, bearer, link=link)
            assert answer.body["version"] == target.number
            assert answer.is_raw_lane
    finally:
        stop.set()
        for one in others:
            one.join()
        link.close()
    assert not wrong


def test_under_load_an_alias_leaves_a_version_that_is_deleted_next_and_nobody_fails(
    front: Running, inference: worker.Worker, version: ModelVersion, bearer: Any
) -> None:
    model, stop, wrong = version.model, threading.Event(), []
    model.point("champion", version)
    body = {"model": "tiny@champion", "inputs": [{"x": 1}]}

    def disturb(path: str) -> None:
        own = front.connect()
        while not stop.is_set():
            answer = front.ask(body, bearer, path, link=own)
            if answer.status != 200:
                wrong.append(answer)
        own.close()

    paths = (PREDICT, PREDICT, PREDICT, DJANGO)
    others = [threading.Thread(target=disturb, args=(one,)) for one in paths]
    for one in others:
        one.start()
    try:
        for n in range(15):
            newer = tiny.make_version("tiny", 8.0 + n, owner=version.owner)
            model.point("champion", newer)
            assert front.ask(body, bearer).body["version"] == newer.number
            versions.delete(version)
            assert front.ask(body | {"model": str(version)}, bearer).status == 404
            version = newer
            assert front.ask(body | {"model": "tiny"}, bearer).status == 200
    finally:
        stop.set()
        for one in others:
            one.join()
    assert not wrong


def test_a_deleted_version_is_not_answered(
    front: Running, inference: worker.Worker, version: ModelVersion, bearer: Any
) -> None:
    body = {"model": "tiny:1", "inputs": [{"x": 1}]}
    assert front.ask(body, bearer).status == 200
    version.delete()
    assert front.ask(body, bearer).body["code"] == "unknown_model"


def test_one_connection_serves_both_lanes_in_turn(
    front: Running, inference: worker.Worker, version: ModelVersion, bearer: Any
) -> None:
    link = front.connect()
    for _ in range(3):
        assert front.ask(GOOD, bearer, link=link).is_raw_lane
        link.request("GET", "/health")
        assert json.loads(link.getresponse().read()) == {"status": "ok"}
        odd = front.ask({**GOOD, "extra": 1}, bearer, link=link)
        assert odd.status == 422
    assert front.ask(GOOD, bearer, link=link).is_raw_lane
    link.close()


def raw_request(bearer: dict[str, str], body: bytes = b"", extra: str = "") -> bytes:
    content = body or json.dumps(GOOD).encode()
    return (
        f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\n{extra}"
        f"Authorization: {bearer['Authorization']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode() + content


def answers(link: socket.socket, count: int) -> list[int]:
    """The statuses of so many answers, each with a length."""
    with link.makefile("rb") as reader:
        found = []
        for _ in range(count):
            found.append(int(reader.readline().split()[1]))
            length = 0
            while line := reader.readline().strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            reader.read(length)
        return found


@pytest.mark.parametrize("ending", ["", "Connection: close\r\n"])
def test_a_connection_outlives_djangos_when_that_stood_still(
    inference: worker.Worker, version: ModelVersion, bearer: Any, ending: str
) -> None:
    answer = f"HTTP/1.1 200 OK\r\n{ending}Content-Length: 2\r\n\r\nok".encode()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_once_and_leave() -> None:
            for _ in range(1 if ending else 2):
                link, _ = server.accept()
                with link:
                    link.recv(65536)
                    link.sendall(answer)

        thread = threading.Thread(target=answer_once_and_leave, daemon=True)
        thread.start()
        front = Running().begin(server.getsockname())
        link = front.connect()
        link.auto_open = 0
        link.connect()
        try:
            assert front.ask(b"{}", bearer, "/", link).raw == b"ok"
            until(lambda: not any(one.tunnel for one in front.front.visitors))
            if ending:
                with pytest.raises((OSError, http.client.HTTPException)):
                    front.ask(GOOD, bearer, link=link)
            else:
                assert front.ask(GOOD, bearer, link=link).is_raw_lane
                assert front.ask(b"{}", bearer, "/", link).raw == b"ok"
        finally:
            link.close()
            front.end()


def test_requests_sent_at_once_are_answered_in_turn(
    front: Running, inference: worker.Worker, version: ModelVersion, bearer: Any
) -> None:
    odd = raw_request(bearer, b'{"model": "tiny", "inputs": []}')
    health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    good = raw_request(bearer)
    with socket.create_connection(("127.0.0.1", front.port), 30) as link:
        link.sendall(good * 3)
        assert answers(link, 3) == [200] * 3
        link.sendall(odd + good)
        assert answers(link, 2) == [422, 200]
        link.sendall(health)
        assert answers(link, 1) == [200]
        link.sendall(good)
        assert answers(link, 1) == [200]


def test_a_request_in_pieces_is_one_request(
    front: Running, inference: worker.Worker, version: ModelVersion, bearer: Any
) -> None:
    with socket.create_connection(("127.0.0.1", front.port), 30) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in raw_request(bearer):
            link.sendall(bytes([byte]))
        assert answers(link, 1) == [200]


def test_a_request_that_stops_is_left_to_django(
    front: Running, bearer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitor, "PATIENCE", 0.0)
    with socket.create_connection(("127.0.0.1", front.port), 30) as link:
        link.sendall(raw_request(bearer)[:-5])
        until(lambda: any(one.tunnel for one in front.front.visitors))
        link.shutdown(socket.SHUT_WR)
        assert link.recv(100).startswith(b"HTTP/1.1 4")


def test_a_client_that_asks_for_it_is_left_after_the_answer(
    front: Running, inference: worker.Worker, version: ModelVersion, bearer: Any
) -> None:
    with socket.create_connection(("127.0.0.1", front.port), 30) as link:
        link.sendall(raw_request(bearer, extra="Connection: close\r\n"))
        assert answers(link, 1) == [200]
        assert link.recv(1) == b""


def until(done: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    "change",
    [
        "Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n", "Cookie: a=b\r\n",
        "Content-Length: 5\r\n", "Upgrade: h2c\r\n", "Authorization: Bearer other\r\n",
        " folded: x\r\n", "na me: x\r\n", "x_y: 1\r\n", "Connection: upgrade\r\n",
        "Content-Encoding: gzip\r\n", "Host: localhost\r\n", "X: \x01\r\n",
        "".join(f"X-{n}: 1\r\n" for n in range(100)),
    ],
)  # fmt: skip
def test_an_odd_head_is_none_of_the_raw_lane(change: str) -> None:
    plain = raw_request({"Authorization": "Bearer k"})
    head = plain[: plain.index(b"\r\n\r\n")]
    assert heads.read(head) is not None
    odd = raw_request({"Authorization": "Bearer k"}, extra=change)
    assert heads.read(odd[: odd.index(b"\r\n\r\n")]) is None


def test_heads_are_not_kept_without_end() -> None:
    for n in range(2 * heads.KEPT):
        heads.read(heads.LINE + f"X: {n}".encode())
    assert len(heads._known) <= heads.KEPT


def test_the_admin_and_large_bodies_go_through(
    front: Running, alice: User, bearer: dict[str, str], api: APIClient, node: Node
) -> None:
    link = front.connect()
    link.request("GET", "/admin/login/")
    assert b"csrfmiddlewaretoken" in link.getresponse().read()
    body = b'{"model": "tiny", "inputs": ["' + b"x" * (heads.MOST_BODY + 10) + b'"]}'
    assert front.ask(body, bearer).status == 404
    link.close()
