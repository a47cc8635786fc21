"""The client's connections: kept, shared by threads, and replaced when the server closed them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from compass import calls
from compass.client import Compass, CompassError
from inference import worker
from registry.models import ModelVersion
from tests.compass.fronts import Running
from tests.inference import tiny
from tests.inference.conftest import tiny_recipe  # noqa: F401


class Server(ThreadingHTTPServer):
    """Counts connections; `closes` says whether to leave the client after a request, or before."""

    daemon_threads = True

    def __init__(self) -> None:
        self.connections, self.bodies = 0, list[Any]()
        self.headers: list[Any] = []
        self.closes: Callable[[int], str] = lambda number: ""
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.headers.append(self.headers)
        closes = self.server.closes(len(self.server.bodies))
        self.close_connection = bool(closes)
        if closes == "before":
            return
        content = b'{"outputs": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield one
    one.shutdown()
    thread.join()
    one.server_close()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(calls.time, "sleep", found.append)
    return found


def test_one_connection_serves_many_calls(server: Server) -> None:
    with Compass(server.url, "k") as compass:
        for _ in range(50):
            compass.predict([{"x": 1}], "tiny")
    assert (server.connections, len(server.bodies)) == (1, 50)


def test_threads_share_a_client_with_a_connection_each_at_most(server: Server) -> None:
    with Compass(server.url, "k") as compass:

        def work() -> None:
            for _ in range(20):
                assert compass.predict([{"x": 1}], "tiny") == {"outputs": []}

        threads = [threading.Thread(target=work) for _ in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert len(server.bodies) == 160
    assert server.connections <= 8


def test_a_connection_that_was_closed_is_replaced_at_once(
    server: Server, slept: list[float]
) -> None:
    server.closes = lambda number: "after" if number % 5 == 0 else ""
    with Compass(server.url, "k", patience=0) as compass:
        for _ in range(20):
            assert compass.predict([{"x": 1}], "tiny") == {"outputs": []}
    assert server.connections in (4, 5)
    assert slept == []


def test_a_connection_closed_as_the_request_came_is_tried_once_more(
    server: Server, slept: list[float]
) -> None:
    server.closes = lambda number: "before" if number == 3 else ""
    with Compass(server.url, "k", patience=0) as compass:
        for _ in range(4):
            assert compass.predict([{"x": 1}], "tiny") == {"outputs": []}
    assert len(server.bodies) == 5
    assert slept == []


def test_a_server_that_always_closes_is_not_asked_without_end(
    server: Server, slept: list[float]
) -> None:
    server.closes = lambda number: "before"
    with (
        Compass(server.url, "k", patience=0) as compass,
        pytest.raises(CompassError) as caught,
    ):
        compass.predict([{"x": 1}], "tiny")
    assert caught.value.code == "unreachable"
    assert len(server.bodies) == 2


def test_a_prediction_is_sent_as_the_raw_lane_reads_it() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    with Compass("http://h", "k", transport=httpx.MockTransport(answer)) as compass:
        compass.predict([1], ["a@champion", "b"], key="user 7")
        compass.predict([1])
        compass.predict((1, 2), "a")
    assert [json.loads(one.content) for one in seen] == [
        {"inputs": [1], "model": ["a@champion", "b"], "key": "user 7"},
        {"inputs": [1]},
        {"inputs": [1, 2], "model": "a"},
    ]
    assert not any("Idempotency-Key" in one.headers for one in seen)


@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_front_answers_the_client_by_its_raw_lane(
    front: Running, inference: worker.Worker, version: ModelVersion, key: str
) -> None:
    with Compass(f"http://127.0.0.1:{front.port}", key) as compass:
        for _ in range(5):
            found = compass.predict([{"x": 4}], ["gone", "tiny"], key="7")
            assert (found["outputs"], found["version"]) == ([{"y": 8}], 1)
            assert found["fell_back"][0]["code"] == "unknown_model"
        (visitor,) = front.front.visitors
        assert visitor.tunnel is None
    assert tiny.Predictor.loads
