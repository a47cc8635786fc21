from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from compass.api import CODES, DEEPEST, PROBLEM_JSON
from registry.errors import CATALOGUE
from registry.models import ApiKey, Task
from tests.compass.routes import ERRORS
from tests.conftest import Clock, client_of

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.compass.routes")]

MEMBERS = {"type", "title", "status", "detail", "code", "errors", "request_id"}


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """The body, once it is sure that it is a problem of that status and code."""
    assert (response.status_code, response["Content-Type"]) == (status, PROBLEM_JSON)
    body: dict[str, Any] = json.loads(response.content)
    assert set(body) == MEMBERS
    assert (body["status"], body["code"]) == (status, code)
    assert CATALOGUE[code] == (status, body["title"])
    assert body["detail"]
    assert body["request_id"] == response["X-Request-ID"]
    assert all(texts and all(texts) for texts in body["errors"].values())
    return body


def anyone(**headers: str) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.credentials(**headers)
    return client


# Who asks


def test_without_a_key_the_answer_asks_for_one() -> None:
    response = anyone().get("/echo")
    problem(response, 401, "not_authenticated")
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "BEARER   {} "])
def test_a_key_as_bearer(header: str, alice: User) -> None:
    _, secret = ApiKey.make(alice, "k")
    response = anyone(HTTP_AUTHORIZATION=header.format(secret)).get("/echo")
    assert (response.status_code, response.data) == (200, {"user": "alice"})


def test_a_key_in_a_header_of_its_own(alice: User) -> None:
    _, secret = ApiKey.make(alice, "k")
    assert anyone(HTTP_X_API_KEY=secret).get("/echo").data == {"user": "alice"}


@pytest.mark.parametrize(
    "secret", ["cmp_wrong", "x", "\u00e4\u00f6", "a b c", "'; DROP TABLE", "x" * 5000]
)
def test_an_unknown_key_is_refused(secret: str, alice: User) -> None:
    ApiKey.make(alice, "k")
    for header in (
        {"HTTP_AUTHORIZATION": f"Bearer {secret}"},
        {"HTTP_X_API_KEY": secret},
    ):
        response = anyone(**header).get("/echo")
        problem(response, 401, "invalid_key")
        assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic YTpi", ""])
def test_no_key_is_not_a_wrong_key(header: str) -> None:
    response = anyone(HTTP_AUTHORIZATION=header).get("/echo")
    problem(response, 401, "not_authenticated")


def test_an_expired_and_a_revoked_key_are_refused(alice: User, time: Clock) -> None:
    end = time() + datetime.timedelta(hours=1)
    _, secret = ApiKey.make(alice, "k", expires_at=end)
    client = anyone(HTTP_X_API_KEY=secret)
    assert client.get("/echo").status_code == 200
    time.forward(hours=1)
    problem(client.get("/echo"), 401, "invalid_key")
    ApiKey.objects.update(expires_at=None, revoked_at=time())
    problem(client.get("/echo"), 401, "invalid_key")


def test_the_use_of_a_key_is_noted_once_a_minute(alice: User, time: Clock) -> None:
    row, secret = ApiKey.make(alice, "k")
    client, first = anyone(HTTP_X_API_KEY=secret), time()
    for seconds, noted in ((0, 0), (59, 0), (2, 61), (30, 61)):
        time.forward(seconds=seconds)
        assert client.get("/echo").status_code == 200
        row.refresh_from_db()
        assert row.last_used_at == first + datetime.timedelta(seconds=noted)


def test_a_session_will_do(alice: User) -> None:
    client = anyone()
    client.force_login(alice)
    assert client.get("/echo").data == {"user": "alice"}


# What a key may


@pytest.mark.parametrize(
    ("method", "scope"),
    [("get", "registry"), ("post", "predict"), ("put", "submit"), ("delete", "admin")],
)
@pytest.mark.parametrize("held", ["read", "submit", "predict", "registry", "admin"])
def test_each_method_needs_its_scope(
    held: str, method: str, scope: str, alice: User, admin: User
) -> None:
    user = admin if held == "admin" else alice
    response = getattr(client_of(user, held), method)("/scoped")
    if held in (scope, "admin"):
        assert response.status_code == 200
    else:
        problem(response, 403, "forbidden")


@pytest.mark.parametrize(("held", "may"), [("read", True), ("submit", False)])
def test_reading_needs_read_where_the_view_says_nothing(
    held: str, may: bool, alice: User
) -> None:
    client = client_of(alice, held)
    assert (client.get("/echo").status_code == 200) is may
    assert (client.post("/echo", {}, format="json").status_code == 200) is not may


def test_a_session_has_the_admin_scope_only_for_staff(alice: User, admin: User) -> None:
    for user, status in ((alice, 403), (admin, 200)):
        client = anyone()
        client.force_login(user)
        assert client.get("/scoped").status_code == 200
        assert client.delete("/scoped").status_code == status


def test_the_admin_scope_of_a_key_counts_only_for_staff(alice: User) -> None:
    client = client_of(alice, "read", "registry", "admin")
    assert client.get("/scoped").status_code == 200
    problem(client.delete("/scoped"), 403, "forbidden")
    problem(client.put("/scoped"), 403, "forbidden")


# What is read

DEEP = b'{"a":' * 30_000 + b"1" + b"}" * 30_000
BAD: dict[str, bytes] = {
    "cut off": b'{"a": ',
    "no json": b"hello",
    "a list": b"[1, 2]",
    "a string": b'"a"',
    "null": b"null",
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": Infinity}',
    "minus infinity": b'{"a": [-Infinity]}',
    "a number beyond float": b'{"a": 1e999}',
    "a number beyond int": b'{"a": ' + b"9" * 5000 + b"}",
    "NUL": b'{"a": "x\\u0000y"}',
    "NUL in a name": b'{"a\\u0000": 1}',
    "NUL within": b'{"a": [{"b": ["\\u0000"]}]}',
    "half a surrogate pair": b'{"a": "\\ud800"}',
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "two values": b"{} {}",
    "very deep": DEEP,
    "deep lists": b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}",
    "one level too deep": b'{"a":' * (DEEPEST + 1) + b"1" + b"}" * (DEEPEST + 1),
}


@pytest.mark.parametrize("case", BAD)
def test_a_body_that_is_no_plain_json_object_is_malformed(
    case: str, api: APIClient
) -> None:
    response = api.post("/echo", BAD[case], content_type="application/json")
    body = problem(response, 400, "malformed")
    assert len(body["detail"]) < 300


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"", {}),
        (b" \n", {}),
        (
            b'{"a": [1, 1.5, true, null, {"b": "\\u00e4"}]}',
            {"a": [1, 1.5, True, None, {"b": "\u00e4"}]},
        ),
        ('{"a": "\u00e4 \U0001f600"}'.encode(), {"a": "\u00e4 \U0001f600"}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a":' * DEEPEST + b"1" + b"}" * DEEPEST, None),
    ],
)
def test_a_plain_json_object_is_read_as_it_is(
    body: bytes, value: Any, api: APIClient
) -> None:
    response = api.post("/echo", body, content_type="application/json")
    assert response.status_code == 200
    assert json.loads(response.content) == (
        json.loads(body) if value is None else value
    )


def test_a_body_beyond_the_limit_is_too_large(api: APIClient, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    exact = json.dumps({"a": "x" * (1000 - len('{"a": ""}'))}).encode()
    assert len(exact) == 1000
    assert api.post("/echo", exact, content_type="application/json").status_code == 200
    response = api.post("/echo", exact + b" ", content_type="application/json")
    problem(response, 413, "too_large")


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "text/csv", "x"])
def test_another_type_of_content_is_not_accepted(kind: str, api: APIClient) -> None:
    problem(api.post("/echo", b"a", content_type=kind), 415, "unsupported_media_type")


# Errors


def test_every_code_of_an_exception_is_in_the_catalogue() -> None:
    assert set(CODES.values()) <= set(CATALOGUE)
    assert all(400 <= status < 600 for status, _ in CATALOGUE.values())


@pytest.mark.parametrize(
    ("name", "status", "code", "detail"),
    [
        ("problem", 409, "wrong_state", "It is over."),
        ("busy", 503, "uploads_busy", "Try again."),
        ("bad_data", 422, "bad_data", "row 3, column affinity: No number."),
        ("bad_item", 422, "bad_item", "No such residue."),
        ("plain_validation", 422, "invalid", "body: Not so."),
        ("parse", 400, "malformed", "Cut off."),
        ("denied", 403, "forbidden", "Not you."),
        ("django_denied", 403, "forbidden", "This key may not do that."),
        ("missing", 404, "not_found", "Not there, or not yours."),
        ("operational", 503, "database_unavailable", "The database does not answer."),
        ("interface", 503, "database_unavailable", "The database does not answer."),
    ],
)
def test_an_error_is_a_problem(
    name: str, status: int, code: str, detail: str, api: APIClient
) -> None:
    response = api.get(f"/fail/{name}")
    assert problem(response, status, code)["detail"] == detail
    assert "secret" not in response.content.decode()


@pytest.mark.parametrize("name", ERRORS)
def test_no_error_shows_what_is_inside(name: str, api: APIClient) -> None:
    response = api.get(f"/fail/{name}")
    problem(response, response.status_code, json.loads(response.content)["code"])
    assert "secret" not in response.content.decode()


def test_what_nobody_foresaw_is_an_internal_problem(api: APIClient) -> None:
    body = problem(api.get("/fail/unforeseen"), 500, "internal")
    assert "request id" in body["detail"]


def test_the_errors_of_fields_are_named_by_their_place(api: APIClient) -> None:
    body = problem(api.get("/fail/validation"), 422, "invalid")
    assert body["errors"] == {
        "name": ["Too long."],
        "resources.cpus": ["At least 1.", "A number."],
        "inputs[1].smiles": ["Empty."],
        "body": ["They do not fit together."],
    }
    assert "resources.cpus: At least 1. A number." in body["detail"]


@pytest.mark.parametrize(
    ("name", "after"),
    [("busy", "2"), ("throttled", "8"), ("operational", "2"), ("problem", None)],
)
def test_what_passes_says_when_to_come_again(
    name: str, after: str | None, api: APIClient
) -> None:
    assert api.get(f"/fail/{name}").headers.get("Retry-After") == after


def test_an_unknown_address_and_method_are_problems(api: APIClient) -> None:
    problem(api.get("/nowhere"), 404, "not_found")
    response = api.patch("/echo", {}, format="json")
    problem(response, 405, "method_not_allowed")
    assert "POST" in response["Allow"]
    problem(api.get("/echo", HTTP_ACCEPT="image/png"), 406, "not_acceptable")


@pytest.mark.parametrize(
    "accept",
    [PROBLEM_JSON, "image/png, application/problem+json;q=0.5", "application/*"],
)
def test_who_accepts_any_json_is_answered(accept: str, api: APIClient) -> None:
    assert api.get("/echo", HTTP_ACCEPT=accept).status_code == 200
    problem(api.get("/fail/missing", HTTP_ACCEPT=accept), 404, "not_found")


# Request ids


@pytest.mark.parametrize("theirs", ["a", "7f3b-1:2.3_4", "x" * 100])
@pytest.mark.parametrize("path", ["/echo", "/nowhere", "/fail/unforeseen"])
def test_a_sane_request_id_is_kept(path: str, theirs: str, api: APIClient) -> None:
    assert api.get(path, HTTP_X_REQUEST_ID=theirs)["X-Request-ID"] == theirs


@pytest.mark.parametrize(
    "theirs", ["", "a b", "x" * 101, "a\n", "<b>", "\u00e4", "a;b"]
)
def test_an_odd_request_id_is_replaced(theirs: str, api: APIClient) -> None:
    ours = api.get("/echo", HTTP_X_REQUEST_ID=theirs)["X-Request-ID"]
    assert ours != theirs
    assert len(ours) == 32


def test_each_request_has_an_id_of_its_own(api: APIClient) -> None:
    assert len({api.get("/echo")["X-Request-ID"] for _ in range(5)}) == 5


# Pages


def test_pages_follow_each_other_newest_first(
    api: APIClient, submit: Callable[..., Task]
) -> None:
    made = [submit().pk for _ in range(7)]
    pages, link = [], "/rows?limit=3"
    while link:
        body = api.get(link).json()
        assert set(body) == {"results", "next", "previous"}
        pages.append([row["id"] for row in body["results"]])
        submit()  # what comes in between moves nothing
        link = body["next"]
    newest = made[::-1]
    assert pages == [newest[:3], newest[3:6], newest[6:]]


@pytest.mark.parametrize(
    ("limit", "count"), [("2", 2), ("0", 3), ("-1", 3), ("x", 3), ("99999", 3)]
)
def test_an_odd_limit_is_the_usual_one(
    limit: str, count: int, api: APIClient, submit: Callable[..., Task]
) -> None:
    for _ in range(3):
        submit()
    assert len(api.get("/rows", {"limit": limit}).json()["results"]) == count


def cursor(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "value",
    [
        "x",
        "\u00e4",
        "%00",
        cursor("p=abc"),
        cursor("p=1.5"),
        cursor("p=-1"),
        cursor("p=\x00"),
        cursor("p=" + "9" * 19),
        cursor("p=" + "9" * 9999),
        cursor("o=x"),
        cursor("p=None"),
    ],
)
def test_a_cursor_of_ones_own_making_is_not_found(
    value: str, api: APIClient, submit: Callable[..., Task]
) -> None:
    submit()
    problem(api.get("/rows", {"cursor": value}), 404, "not_found")


@pytest.mark.parametrize("value", [cursor("p=5"), cursor("r=1&p=5"), cursor("o=3")])
def test_a_cursor_to_any_row_is_a_page(
    value: str, api: APIClient, submit: Callable[..., Task]
) -> None:
    assert api.get("/rows", {"cursor": value}).status_code == 200
