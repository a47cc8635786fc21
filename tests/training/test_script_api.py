"""What `POST /scripts` takes and refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from registry import store
from registry.models import Dependency, Node, Task, Upload
from registry.resources import GIB
from registry.states import State
from tests.conftest import client_of, make_node
from training import script_text

pytestmark = pytest.mark.django_db


def post(api: APIClient, **body: Any) -> Any:
    body.setdefault("script", "echo hi\n")
    return api.post("/api/v1/scripts", body, format="json")


def errors(answer: Any) -> dict[str, list[str]]:
    assert answer.status_code == 422, answer.content
    found: dict[str, list[str]] = answer.json()["errors"]
    return found


def test_a_script_is_accepted_with_all_that_was_asked(api: APIClient) -> None:
    answer = post(
        api,
        name="count",
        env={"A": "1", "LD_PRELOAD": "", "_x": " b "},
        resources={"cpus": 2, "memory": 2**30},
        time_limit=60,
        soft_time_limit=50,
        priority=3,
        tags=["t"],
    )
    assert answer.status_code == 202, answer.content
    body = answer.json()
    assert answer["Location"] == f"/api/v1/tasks/{body['id']}"
    assert (body["kind"], body["state"], body["name"]) == ("script", "pending", "count")
    assert (body["lane"], body["max_retries"], body["priority"]) == ("cpu", 0, 3)
    assert body["resources"]["cpus"] == 2
    task = Task.objects.get(pk=body["id"])
    assert task.params["script"] == "echo hi\n"
    assert task.params["env"] == {"A": "1", "LD_PRELOAD": "", "_x": " b "}
    assert (task.time_limit, task.soft_time_limit) == (60, 50)
    assert api.get(f"/api/v1/scripts/{task.pk}").status_code == 200
    assert api.get("/api/v1/scripts").json()["results"][0]["id"] == body["id"]


def test_a_repeated_request_makes_one_array(api: APIClient) -> None:
    body = {"script": "true\n", "array": "0-3"}
    first, second = (
        api.post("/api/v1/scripts", body, format="json", HTTP_IDEMPOTENCY_KEY="k")
        for _ in range(2)
    )
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert second["Idempotent-Replay"] == "true"
    assert Task.objects.count() == 5


def test_it_needs_the_scope_script(alice: Any) -> None:
    assert post(client_of(alice, "read", "submit")).status_code == 403
    assert post(client_of(alice, "script")).status_code == 202


@pytest.mark.parametrize("script", ["", "  \n\t\n", "\ufeff\r\n"])
def test_an_empty_script_is_refused(api: APIClient, script: str) -> None:
    assert "script" in errors(post(api, script=script))


def test_a_nul_is_refused_by_its_field(api: APIClient) -> None:
    assert "NUL" in errors(post(api, script="echo\0"))["script"][0]
    assert post(api, name="a\0b").status_code == 400


@pytest.mark.parametrize(
    "line",
    [
        "#!/usr/bin/env python3",
        "#!/usr/bin/python",
        "#! /usr/bin/perl -w",
        "#!/bin/zsh",
    ],
)
def test_another_interpreters_script_is_refused_with_a_way_out(
    api: APIClient, line: str
) -> None:
    text = errors(post(api, script=f"{line}\nprint(1)\n"))["script"][0]
    assert "/bin/bash" in text


@pytest.mark.parametrize(
    "line", ["#!/bin/bash", "#!/bin/sh -e", "#!/usr/bin/env bash", "# plain", "#!"]
)
def test_a_shells_script_is_taken(api: APIClient, line: str) -> None:
    assert post(api, script=f"{line}\ntrue\n").status_code == 202


def test_line_ends_of_other_systems_and_a_mark_before_are_taken_off(
    api: APIClient,
) -> None:
    pk = post(api, script="\ufeff#!/bin/bash\r\necho a\r\n").json()["id"]
    assert Task.objects.get(pk=pk).params["script"] == "#!/bin/bash\necho a\n"


def test_a_million_lines_are_kept_in_a_file_and_shown_whole(api: APIClient) -> None:
    script = ":\n" * 1_000_000
    answer = post(api, script=script)
    assert answer.status_code == 202
    pk = answer.json()["id"]
    assert len(answer.content) < 10_000
    assert api.get(f"/api/v1/scripts/{pk}/script").content == script.encode()
    assert (store.task_path(int(pk)) / "script").read_text() == script


def test_a_script_beyond_the_limit_is_refused_and_leaves_nothing(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script_text, "MOST", 10_000)
    answer = post(api, script="x" * 10_001)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "10,000 bytes" in answer.json()["detail"]
    assert not Task.objects.exists()


def test_what_is_refused_late_leaves_no_file(api: APIClient) -> None:
    assert post(api, script="x" * 20_000, files={"a": "99"}).status_code == 422
    assert list((store.root() / "aside").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["1A", "A-B", "", "A B", "A=B", "COMPASS_KEY", "SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES"]
)  # fmt: skip
def test_a_bad_name_of_a_variable_is_refused(api: APIClient, name: str) -> None:
    assert f"env.{name}" in errors(post(api, env={name: "x"}))


def test_an_environment_that_no_kernel_takes_is_refused(api: APIClient) -> None:
    assert "env.A" in errors(post(api, env={"A": "x" * 200_000}))
    assert "env" in errors(post(api, env={f"A{i}": "x" * 90_000 for i in range(9)}))
    assert "env" in errors(post(api, env=["A=1"]))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time_limit", 0),
        ("time_limit", -1),
        ("time_limit", "1h"),
        ("soft_time_limit", 0),
        ("max_retries", -1),
        ("max_retries", 99),
        ("priority", 10**6),
        ("array", "0-99%0"),
        ("array", "5-1"),
        ("array", "0-99999999"),
        ("array", ""),
        ("lane", "inference"),
        ("script", 7),
        ("nice", 1),
    ],
)
def test_absurd_values_are_refused_by_their_field(
    api: APIClient, field: str, value: Any
) -> None:
    assert field in errors(post(api, **{field: value}))


@pytest.mark.parametrize(
    ("env", "field"),
    [
        ({"A": "\u00e9" * 50_001}, "env.A"),
        ({f"A{n}": "\u00e9" * 50_000 for n in range(5)}, "env"),
    ],
    ids=["one value", "all together"],
)
def test_an_environment_is_bounded_by_bytes_as_the_kernel_does(
    api: APIClient, env: dict[str, str], field: str
) -> None:
    assert field in errors(post(api, env=env))


def test_the_soft_limit_comes_before_the_hard_one(api: APIClient) -> None:
    found = errors(post(api, time_limit=10, soft_time_limit=10))
    assert "soft_time_limit" in found


def test_larger_than_any_node_is_refused(api: APIClient, node: Node) -> None:
    answer = post(api, resources={"cpus": 64})
    assert (answer.status_code, answer.json()["code"]) == (422, "resources_too_large")
    [text] = answer.json()["errors"]["resources"]
    assert text.startswith(f"at most {node.cpus} CPUs, ")
    assert text.removeprefix("at most ") in answer.json()["detail"]


def test_a_gpu_with_more_memory_than_any_is_refused_with_the_largest(
    api: APIClient,
) -> None:
    gpus = [{"index": 0, "memory": 8 * GIB}, {"index": 1, "memory": 40 * GIB}]
    make_node("gpu@one", cpus=4, memory=16 * GIB, gpus=gpus)
    answer = post(api, resources={"gpus": 1, "gpu_memory": 60 * GIB})
    assert (answer.status_code, answer.json()["code"]) == (422, "resources_too_large")
    assert answer.json()["detail"] == (
        "No gpu node could ever hold 1 GPU with 60.0 GiB; the largest for it, gpu@one, "
        "has 4 CPUs, 2 GPUs of up to 40.0 GiB and 16.0 GiB."
    )


def test_memory_of_a_gpu_is_nothing_without_a_gpu(api: APIClient) -> None:
    assert "resources.gpu_memory" in errors(post(api, resources={"gpu_memory": GIB}))


def test_a_gpu_leads_to_its_lane(api: APIClient) -> None:
    assert post(api, resources={"gpus": 1}).json()["lane"] == "gpu"
    assert post(api, lane="gpu").json()["resources"]["gpus"] == 1
    assert "resources.gpus" in errors(post(api, lane="cpu", resources={"gpus": 1}))


def test_an_array_is_one_head_with_its_elements(api: APIClient) -> None:
    answer = post(api, array="0-9%4", script="x" * 9000, name="many")
    head = Task.objects.get(pk=answer.json()["id"])
    assert (head.array_size, head.array_limit) == (10, 4)
    element = head.elements.get(array_index=3)
    assert (element.kind, element.name, element.params) == ("script", "many[3]", {})
    assert element.asked["script_size"] == 9000
    whole = api.get(f"/api/v1/scripts/{element.pk}/script").content
    assert whole == b"x" * 9000


def test_dependencies_hold_it(api: APIClient) -> None:
    first = post(api).json()["id"]
    second = post(api, depends_on={"afterok": [first]}).json()
    task = Task.objects.get(pk=second["id"])
    assert task.held
    assert Dependency.objects.get(task=task).on_id == int(first)
    assert first in json.dumps(second["depends_on"])
    answer = post(api, depends_on={"afterok": ["999"]})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_task")


def upload_of(owner: Any, state: str = Upload.State.SEALED) -> Upload:
    upload: Upload = Upload.objects.create(
        owner=owner, filename="a.csv", name="a", state=state, sha256="0" * 64,
        created_at="2026-01-01T00:00:00Z", touched_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    return upload


def test_uploads_are_named_and_cannot_be_deleted_under_it(
    api: APIClient, alice: Any
) -> None:
    upload = upload_of(alice)
    answer = post(api, files={"data/a.csv": str(upload.pk)})
    assert answer.status_code == 202, answer.content
    assert answer.json()["params"]["files"] == {"data/a.csv": str(upload.pk)}
    assert api.delete(f"/api/v1/uploads/{upload.pk}").status_code == 409
    api.post(f"/api/v1/tasks/{answer.json()['id']}/cancel")
    assert api.delete(f"/api/v1/uploads/{upload.pk}").status_code == 204


@pytest.mark.parametrize(
    "name",
    ["../a", "/etc/a", "a/../b", "a//b", ".", "~/a", "a\\b", "x" * 300, "stdout"],
)
def test_a_files_name_stays_inside(api: APIClient, alice: Any, name: str) -> None:
    found = errors(post(api, files={name: str(upload_of(alice).pk)}))
    assert [one for one in found if one.startswith("files.")]


def test_other_peoples_uploads_are_unknown(api: APIClient, bob: Any) -> None:
    found = errors(post(api, files={"a": str(upload_of(bob).pk)}))
    assert "files.a" in found


def test_a_file_and_a_directory_cannot_have_one_name(
    api: APIClient, alice: Any
) -> None:
    pk = str(upload_of(alice).pk)
    assert "files.a" in errors(post(api, files={"a": pk, "a/b": pk}))


def test_the_same_idempotency_key_makes_one_script(api: APIClient) -> None:
    body = {"script": "echo hi"}
    first, second = (
        api.post("/api/v1/scripts", body, format="json", HTTP_IDEMPOTENCY_KEY="k")
        for _ in range(2)
    )
    assert first.json()["id"] == second.json()["id"]
    assert Task.objects.count() == 1


def test_a_script_cannot_be_paused(api: APIClient, node: Node) -> None:
    task = Task.objects.get(pk=post(api).json()["id"])
    task.assign(node)
    task.start(node)
    answer = api.post(f"/api/v1/tasks/{task.pk}/pause")
    assert answer.status_code == 409
    assert "cannot be paused" in answer.json()["detail"]
    task.refresh_from_db()
    assert task.state == State.RUNNING
