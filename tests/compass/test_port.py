from __future__ import annotations

import socket

import pytest

from compass.port import NoPort, ReservedPort


def test_a_taken_port_is_passed_over() -> None:
    first = ReservedPort("127.0.0.1", 20_000)
    second = ReservedPort("127.0.0.1", first.number)
    assert second.number > first.number
    first.release()
    second.release()


def test_a_port_of_another_program_is_passed_over() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        port = ReservedPort("127.0.0.1", taken)
        assert port.number > taken
        port.release()


def test_the_web_server_can_listen_on_the_port_that_is_kept_for_it() -> None:
    kept = ReservedPort("127.0.0.1", 20_100)
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", kept.number))
        server.listen()
        with socket.create_connection(("127.0.0.1", kept.number), timeout=5) as client:
            assert client.getpeername()[1] == kept.number
    kept.release()


@pytest.mark.parametrize(
    ("host", "start"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("0.0.0.0", "http://127.0.0.1:"),  # noqa: S104
        ("localhost", "http://localhost:"),
    ],
)
def test_the_address_is_one_that_this_machine_can_call(host: str, start: str) -> None:
    port = ReservedPort(host, 20_200)
    assert port.url == f"{start}{port.number}"
    port.release()


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(NoPort, match="cannot be used"):
        ReservedPort("192.0.2.1", 20_300)
