"""Where a request ends is told alike however its bytes come, or it is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.ends import MOST_LINE, End
from registry.errors import Problem

LINE = b"POST /a?b=\xc3\xa4 HTTP/1.1\r\nHost: localhost"
CHUNKED = LINE + b"\r\nTransfer-Encoding: Chunked"
BEHIND = b"GET /b HTTP/1.1\r\n\r\n"

REQUESTS = {
    "no body": (LINE, b""),
    "length": (LINE + b"\r\ncontent-length:  5 ", b"12\r\n5"),
    "chunks": (CHUNKED, b"a ;x=y\r\n0\r\n\r\n67890\r\n0\r\n\r\n"),
    "trailer": (CHUNKED, b"1\r\n\n\r\n00\r\nA: b\r\n\r\n"),
    "upgrade": (LINE + b"\r\nConnection: Upgrade\r\nUpgrade: h2c", b""),
}


@pytest.mark.parametrize("name", REQUESTS)
@given(cuts=st.lists(st.integers(0, 140)))
def test_the_end_is_found_in_whatever_pieces_it_comes(
    name: str, cuts: list[int]
) -> None:
    head, body = REQUESTS[name]
    whole = b"\r\n" + head + b"\r\n\r\n" + body
    end, found, data = End.of(head, len(b"\r\n")), 0, whole + BEHIND
    edges = [0, *sorted(cuts), len(data)]
    for one, next_one in pairwise(edges):
        found += end.take(data[one:next_one])
    assert found == len(whole)


@pytest.mark.parametrize(
    "head",
    [
        LINE.replace(b"\r\n", b"\n"),
        LINE + b"\r\n\nGET /b HTTP/1.1",
        LINE + b"\r\nA: b\rContent-Length: 5",
        LINE + b"\r\nA: b\r\n c",
        LINE + b"\r\nContent-Length : 5",
        LINE + b"\r\nContent-Length: 5\r\nContent-Length: 5",
        LINE + b"\r\nContent-Length: 5, 5",
        LINE + b"\r\nContent-Length: " + b"0" * 20 + b"5",
        LINE + b"\r\nContent-Length:",
        CHUNKED + b"\r\nContent-Length: 5",
        LINE + b"\r\nTransfer-Encoding: gzip, chunked",
        LINE + b"\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        LINE + b"\r\nTransfer-Encoding:",
        LINE + b"\r\nX-API-Key: a\r\nX_API_Key: b",
        LINE + b"\r\nAuthorization: a\r\nauthorization: b",
        b"PRI * HTTP/2.0",
        b"",
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(head: bytes) -> None:
    with pytest.raises(Problem, match="plainly"):
        End.of(head, 0)


@pytest.mark.parametrize(
    "body", [b"x\r\n", b"1\n", b"\r\n", b"0\r\nA\n", b"1;" + b"a" * MOST_LINE]
)
def test_chunks_that_are_none_have_no_end(body: bytes) -> None:
    end = End.of(CHUNKED, 0)
    with pytest.raises(Problem, match="chunks"):
        end.take(CHUNKED + b"\r\n\r\n" + body)
