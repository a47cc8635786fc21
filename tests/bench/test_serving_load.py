"""What the load of the serving comparison takes for an answer, and what it counts as a fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from bench.serving.load import Load, answer_of

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def load(*wanted: float, port: int = 0, bad: bytes | None = None) -> Load:
    bodies = [str(item).encode() for item in range(len(wanted))]
    return Load(port, "/predict", {}, bodies, list(wanted), 0.1, bad=bad)


def number(value: Any) -> bytes:
    return json.dumps({"outputs": [{"y": value}]}).encode()


def test_an_answer_is_whole_when_all_that_its_length_says_is_there() -> None:
    data = HEAD + b"Content-Length: 4\r\n\r\n"
    assert [answer_of(data[:20]), answer_of(data), answer_of(data + b"abc")] == [
        None
    ] * 3
    assert answer_of(data + b"abcd") == (b"200", b"abcd")


def test_an_answer_in_chunks_is_put_together() -> None:
    data = (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    )
    for at in range(len(data)):
        assert answer_of(data[:at]) is None, at
    assert answer_of(data) == (b"200", b"abcde")


def test_an_answer_equal_to_bare_torch_is_right() -> None:
    one = load(0.5, 2000.0)
    assert one.check(0, b"200", number(0.500009))
    assert one.check(1, b"200", number(2000.01))
    assert not one.faults


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (b"200", number(0.50002), "wrong"),
        (b"200", b'{"outputs": [{"y": "nan"}]}', "wrong"),
        (b"200", number(None), "error"),
        (b"200", b'{"outputs": []}', "error"),
        (b"200", b"<html>", "error"),
        (b"503", number(0.5), "error"),
    ],
)
def test_any_other_answer_is_a_fault(status: bytes, body: bytes, fault: str) -> None:
    one = load(0.5)
    assert not one.check(0, status, body)
    assert dict(one.faults) == {fault: 1}
    assert one.examples[fault]


class Answers(BaseHTTPRequestHandler):
    """Answers item N by N, the item 2 by another number, what is no number by 500 and an end."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        is_good = asked.isdigit()
        body = number(8.0 if asked == "2" else int(asked)) if is_good else b"no"
        self.send_response(200 if is_good else 500)
        if not is_good:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_that_is_wrong_about_one_item_is_found_out() -> None:
    with answering() as port:
        one = load(0.0, 1.0, 2.0, port=port)
        one.run(3)
    assert one.times
    assert set(one.faults) == {"wrong"}
    assert one.examples["wrong"] == "8.0 instead of 2.0"
    assert one.count == len(one.times) + one.faults["wrong"]


def test_bad_requests_are_counted_apart_from_the_good_ones_beside_them() -> None:
    with answering() as port:
        one = load(0.0, 1.0, port=port, bad=b"bad")
        one.run(4)
    assert one.times
    assert one.refused > 1  # it connects again after each
    assert not one.faults


def test_a_bad_request_that_is_answered_by_a_number_is_a_fault() -> None:
    with answering() as port:
        one = load(0.0, port=port, bad=b"1")
        one.run(2)
    assert one.faults["wrong"]
    assert not one.refused


def test_a_port_at_which_nobody_listens_is_an_error_and_no_hang() -> None:
    with answering() as port:
        pass
    one = load(0.0, port=port)
    one.run(2)
    assert not one.times
    assert one.faults["error"]
