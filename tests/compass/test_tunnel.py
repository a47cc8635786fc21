"""A connection that Django has is free again once all its requests have their answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from compass.tunnel import LONGEST_HEAD, Tunnel

GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = GET.replace(b"GET", b"HEAD")
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


class Client:
    """What a visitor is to its tunnel."""

    def __init__(self) -> None:
        self.got = b""
        self.answers = 0
        self.has_more = False
        self.transport = self
        self.front = SimpleNamespace(is_leaving=False)

    def write(self, data: bytes) -> None:
        self.got += data

    def django_answered(self, *, is_last: bool) -> None:
        self.answers += 1


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def tunnel(client: Client) -> Any:
    one: Any = Tunnel(client)  # type: ignore[arg-type]
    one.transport = SimpleNamespace(write=lambda data: None)
    return one


@pytest.mark.parametrize(
    "answer",
    [
        [ANSWER + b"\r\n"],
        [ANSWER, b"\r\n"],
        [ANSWER[:30], ANSWER[30:] + b"\r", b"\n"],
        [EARLY + ANSWER + b"\r\n"],
        [EARLY[:20], EARLY[20:] + ANSWER, b"\r\n"],
        [b"HTTP/1.1 204 No Content\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"],
    ],
)
def test_the_answer_to_head_has_no_body_whatever_length_it_tells(
    tunnel: Any, client: Client, answer: list[bytes]
) -> None:
    for times in (1, 2):
        tunnel.send(HEAD)
        for part in answer:
            assert tunnel.is_busy
            tunnel.data_received(part)
        assert (tunnel.is_busy, client.answers) == (False, 2 * times - 1)
        tunnel.send(GET)
        assert tunnel.is_busy
        tunnel.data_received(ANSWER + b"\r\nhel")
        assert tunnel.is_busy
        tunnel.data_received(b"lo")
        assert (tunnel.is_busy, client.answers) == (False, 2 * times)
    assert client.got == 2 * (b"".join(answer) + ANSWER + b"\r\nhello")


@pytest.mark.parametrize(
    ("requests", "answer"),
    [
        (HEAD + GET, ANSWER + b"\r\n" + ANSWER + b"\r\nhello"),
        (GET + HEAD, ANSWER + b"\r\nhello" + ANSWER + b"\r\n"),
        (HEAD, ANSWER + b"\r\nhello"),
        (HEAD, b"HTTP/1.1 200 OK\r\nX: " + LONGEST_HEAD * b"x"),
        (GET.replace(b"GET /health", b"CONNECT a:1"), ANSWER + b"\r\n"),
    ],
    ids=["another behind it", "behind another", "a body", "endless", "connect"],
)
def test_a_connection_of_which_that_cannot_be_told_stays_djangos(
    tunnel: Any, client: Client, requests: bytes, answer: bytes
) -> None:
    tunnel.send(requests)
    tunnel.data_received(answer)
    tunnel.send(GET)
    tunnel.data_received(ANSWER + b"\r\nhello")
    assert tunnel.is_busy
    assert client.got == answer + ANSWER + b"\r\nhello"
    assert client.answers == 0


@pytest.mark.parametrize(
    ("line", "keeps"), [(b"", True), (b"Connection: close\r\n", False)]
)
def test_whether_the_connection_is_kept_is_what_the_answer_to_head_says(
    tunnel: Any, line: bytes, keeps: bool
) -> None:
    tunnel.send(HEAD)
    tunnel.data_received(ANSWER + line + b"\r\n")
    assert tunnel._counts.keeps_alive is keeps


def test_a_connection_is_free_when_the_body_ends_after_its_answer(
    tunnel: Any, client: Client
) -> None:
    tunnel.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    tunnel.data_received(ANSWER + b"\r\n12345")
    assert (client.answers, tunnel.is_busy) == (0, True)
    tunnel.send(b"0\r\n\r\n")
    assert (client.answers, tunnel.is_busy) == (1, False)


def test_the_id_of_the_one_request_that_waits_is_told_and_never_anothers(
    tunnel: Any,
) -> None:
    def named(name: bytes) -> bytes:
        return GET.replace(b"\r\n\r\n", b"\r\nX-REQUEST-ID: %b\r\n\r\n" % name)

    tunnel.send(named(b"one"))
    assert tunnel.request_id == "one"
    tunnel.send(named(b"two"))
    assert tunnel.request_id == ""
    tunnel.data_received(ANSWER + b"\r\nhello")
    assert tunnel.request_id == "two"
    tunnel.data_received(ANSWER + b"\r\nhello")
    for odd in (GET, named(b"no{}"), named(b"a\r\nx-request-id: b")):
        tunnel.send(odd)
        assert tunnel.request_id == ""
        tunnel.data_received(ANSWER + b"\r\nhello")
