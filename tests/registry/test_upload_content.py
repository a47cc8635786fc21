from __future__ import annotations

import pytest

from tests.registry.uploading import CSV, row, sealed

pytestmark = pytest.mark.django_db


@pytest.fixture
def get(api):
    upload = sealed(api, CSV)

    def get(**headers: str):
        response = api.get(f"/api/v1/uploads/{upload.pk}/content", **headers)
        body = b"".join(response.streaming_content) if response.streaming else b""
        return response, body

    return get


def test_the_whole_file_comes_with_its_name_and_type(get):
    response, body = get()

    assert (response.status_code, body) == (200, CSV)
    assert response["Content-Type"] == "text/csv"
    assert response["Content-Length"] == str(len(CSV))
    assert response["Content-Disposition"] == 'attachment; filename="data.csv"'
    assert response["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=3-9", 3, 10),
        ("bytes=7-", 7, len(CSV)),
        ("bytes=-5", len(CSV) - 5, len(CSV)),
        ("bytes=-9999", 0, len(CSV)),
        ("bytes=5-99999", 5, len(CSV)),
    ],
)
def test_a_range_gives_that_part(get, asked, start, end):
    response, body = get(HTTP_RANGE=asked)

    assert (response.status_code, body) == (206, CSV[start:end])
    assert response["Content-Range"] == f"bytes {start}-{end - 1}/{len(CSV)}"
    assert response["Content-Length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=99-", "bytes=99-100", "bytes=-0"])
def test_a_range_beyond_the_end_is_416(get, asked):
    response, _ = get(HTTP_RANGE=asked)

    assert (response.status_code, response.data["code"]) == (
        416,
        "range_not_satisfiable",
    )
    assert response["Content-Range"] == f"bytes */{len(CSV)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "rows=1-2", "bytes=-", "bytes=5-2"])
def test_a_range_that_is_not_understood_gives_the_whole(get, asked):
    response, body = get(HTTP_RANGE=asked)
    assert (response.status_code, body) == (200, CSV)


def test_a_range_of_another_version_gives_the_whole(get):
    tag = get()[0]["ETag"]
    assert get(HTTP_RANGE="bytes=0-1", HTTP_IF_RANGE=tag)[1] == CSV[:2]
    assert get(HTTP_RANGE="bytes=0-1", HTTP_IF_RANGE='"old"')[1] == CSV


def test_any_accepted_type_is_answered(get):
    assert get(HTTP_ACCEPT="text/csv")[0].status_code == 200
    assert get(HTTP_ACCEPT="image/png")[0].status_code == 200


def test_what_is_not_sealed_has_no_content(api, alice):
    response = api.get(f"/api/v1/uploads/{row(alice).pk}/content")
    assert (response.status_code, response.data["code"]) == (409, "wrong_state")
