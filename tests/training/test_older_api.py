"""The older scheduler's routes in their own shapes."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from registry import store
from registry.models import Node, Task
from tests.conftest import Clock, client_of
from training import older_words

pytestmark = pytest.mark.django_db

FULL = {
    "account": "lab",
    "environment": {"PATH": "/bin:/usr/bin", "N": 3, "SLURM_JOB_ID": "1"},
    "current_working_directory": "/home/alice",
    "standard_output": "logs/%j.out",
    "standard_error": "err.txt",
    "ntasks_per_node": "2",
    "cpus_per_task": 2,
    "memory_per_node": "4G",
    "name": "count",
    "time_limit": "1-00:30:00",
    "partition": "normal",
    "exclusive": False,
    "qos": "high",
}


def submit(
    api: APIClient, root: str = "", script: str = "#!/bin/bash\ntrue\n", **job: Any
) -> Any:
    return api.post(
        f"{root}/jobs/submit", {"job": job, "script": script}, format="json"
    )


def made(answer: Any) -> Task:
    assert answer.status_code == 201, answer.content
    task: Task = Task.objects.get(pk=answer.json()["job_id"])
    return task


def refused(answer: Any, field: str) -> str:
    assert answer.status_code == 422, answer.content
    return str(answer.json()["errors"][field])


@pytest.mark.parametrize("root", ["", "/api/v1"])
def test_a_job_is_submitted_queried_and_cancelled(
    api: APIClient, root: str, time: Clock
) -> None:
    answer = submit(api, root, **FULL)
    task = made(answer)
    assert set(answer.json()) == {"job_id"}
    assert (task.kind, task.cpus, task.memory) == ("script", 4, 4 * 2**30)
    assert (task.time_limit, task.lane) == (86400 + 1800, "cpu")
    assert task.params["env"] == {"PATH": "/bin:/usr/bin", "N": "3"}
    body = api.get(f"{root}/jobs/query/{task.pk}").json()
    assert body == {
        "job_id": str(task.pk),
        "state": "PENDING",
        "error_msg": "",
        "time": {
            "submit": "2026-01-05T09:00:00Z",
            "start": None,
            "end": None,
            "eligible": "2026-01-05T09:00:00Z",
            "elapsed": 0,
            "limit": 88200,
        },
        "job_log": {"stdout": "", "stderr": ""},
        "detail": {
            "job_name": "count",
            "user": "alice",
            "partition": "normal",
            "allocated_cpus": 0,
            "allocated_nodes": 0,
            "node_list": [],
            "exit_code": None,
            "work_dir": str(store.task_path(task.pk) / "files"),
            "account": "lab",
        },
    }
    for _ in range(2):
        answer = api.post(f"{root}/jobs/cancel/{task.pk}")
        assert (answer.status_code, answer.json()["state"]) == (200, "CANCELLED")
    assert api.get(f"{root}/jobs/query/{task.pk}").json()["state"] == "CANCELLED"


def test_a_running_and_an_ended_job_are_told(
    api: APIClient, node: Node, time: Clock
) -> None:
    task = made(submit(api, standard_output="out-%j.txt", name="n"))
    task.assign(node)
    task.start(node)
    work = store.task_path(task.pk) / "attempt-1" / "work"
    work.mkdir(parents=True)
    (work / f"out-{task.pk}.txt").write_bytes(
        b"\x80" + "é".encode() * 40_000 + b"end\n"
    )
    time.forward(seconds=90)
    body = api.get(f"/jobs/query/{task.pk}").json()
    assert (body["state"], body["time"]["elapsed"]) == ("RUNNING", 90)
    assert body["detail"]["node_list"] == [node.name]
    assert (body["detail"]["allocated_cpus"], body["detail"]["allocated_nodes"]) == (
        1,
        1,
    )
    assert body["detail"]["work_dir"] == str(work)
    stdout = body["job_log"]["stdout"]
    assert stdout.endswith("éend\n")
    assert 60_000 < len(stdout.encode()) <= 64 * 1024
    assert stdout[0] == "é"
    assert body["job_log"]["stderr"] == stdout, (
        "without a name of its own it goes along"
    )
    task.fail("exit_status", "It ended by signal SIGSEGV.", signal=11)
    body = api.get(f"/jobs/query/{task.pk}").json()
    assert (body["state"], body["detail"]["exit_code"]) == ("FAILED", 139)
    assert body["error_msg"] == "It ended by signal SIGSEGV."
    answer = api.post(f"/jobs/cancel/{task.pk}")
    assert (answer.status_code, answer.json()["state"]) == (200, "FAILED")


def test_the_log_follows_no_link_out(api: APIClient, node: Node, tmp_path: Any) -> None:
    task = made(submit(api))
    files = store.task_path(task.pk) / "files"
    files.mkdir(parents=True)
    (tmp_path / "secret").write_text("hidden")
    (files / "stdout").symlink_to(tmp_path / "secret")
    assert api.get(f"/jobs/query/{task.pk}").json()["job_log"]["stdout"] == ""


@pytest.mark.parametrize("field", ["standard_output", "standard_error"])
@pytest.mark.parametrize("name", ["/tmp/out", "../out", "a/../../out", "~/out"])  # noqa: S108
def test_output_paths_that_lead_out_are_refused(
    api: APIClient, field: str, name: str
) -> None:
    assert "must" in refused(submit(api, **{field: name}), f"job.{field}")
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30", 1800), (30, 1800), ("1:30", 5400), ("2:30", 9000), ("0:01", 60),
        ("1:02:03", 3723), ("1-00:00:00", 86400), ("2-12", 216_000),
        ("1-01:30", 91_800), ("0:00:30", 30), ("UNLIMITED", None), (None, None),
    ],
    ids=repr,
)  # fmt: skip
def test_times_are_read_as_they_were(
    api: APIClient, text: Any, expected: int | None
) -> None:
    assert made(submit(api, time_limit=text)).time_limit == expected


@pytest.mark.parametrize(
    "text",
    ["0", 0, "0:00", "0-00:00:00", "-5", "1:75", "abc", "1:2:3:4", "1.5", "99999999", True, []],
    ids=repr,
)  # fmt: skip
def test_times_that_cannot_be_are_refused(api: APIClient, text: Any) -> None:
    refused(submit(api, time_limit=text), "job.time_limit")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4G", 2**32), ("512M", 2**29), ("1024", 2**30), (1024, 2**30), ("1.5GB", 3 * 2**29),
     ("2GiB", 2**31), ("100k", 102_400), ("0", 0)],
    ids=repr,
)  # fmt: skip
def test_memory_is_read_as_it_was(api: APIClient, text: Any, expected: int) -> None:
    assert made(submit(api, memory_per_node=text)).memory == expected


@pytest.mark.parametrize("text", ["4X", "-1", "G", "", "9" * 20, False, {}], ids=repr)
def test_memory_that_cannot_be_is_refused(api: APIClient, text: Any) -> None:
    refused(submit(api, memory_per_node=text), "job.memory_per_node")


@pytest.mark.parametrize(
    "given",
    [{"A": "1", "B": "2,3"}, ["A=1", "B=2,3"], "A=1,B=2,3"],
    ids=repr,
)
def test_an_environment_comes_in_three_ways(api: APIClient, given: Any) -> None:
    task = made(submit(api, environment=given))
    assert task.params["env"] == {"A": "1", "B": "2,3"}


@pytest.mark.parametrize("given", [7, ["A"], {"A": []}, {"1A": "x"}, "A B=1"], ids=repr)
def test_an_environment_that_cannot_be_is_refused(api: APIClient, given: Any) -> None:
    answer = submit(api, environment=given)
    assert answer.status_code == 422, answer.content


@pytest.mark.parametrize("value", ["0", 0, -1, "many", True, 5000], ids=repr)
def test_counts_that_cannot_be_are_refused(api: APIClient, value: Any) -> None:
    refused(submit(api, cpus_per_task=value), "job.cpus_per_task")


@pytest.mark.parametrize("field", sorted({*FULL, "gpus", "nodes"}))
def test_null_is_as_good_as_left_out(api: APIClient, field: str) -> None:
    made(submit(api, **{field: None}))


def test_a_job_of_null_is_as_good_as_left_out(api: APIClient) -> None:
    body = {"job": None, "script": "true"}
    made(api.post("/jobs/submit", body, format="json"))


def test_more_nodes_than_one_are_refused(api: APIClient) -> None:
    refused(submit(api, nodes=2), "job.nodes")


def test_exclusive_takes_the_whole_node(api: APIClient, node: Node) -> None:
    assert made(submit(api, exclusive=True)).cpus == node.cpus


def test_a_partition_of_gpus_is_their_lane(api: APIClient) -> None:
    assert made(submit(api, partition="gpu")).gpus == 1
    assert made(submit(api, gpus="gpu:2")).lane == "gpu"


def test_a_bare_script_is_enough_and_none_is_not(api: APIClient) -> None:
    made(api.post("/jobs/submit", {"script": "true"}, format="json"))
    made(api.post("/jobs/submit", {"job": {"script": "true"}}, format="json"))
    assert api.post("/jobs/submit", {"job": {}}, format="json").status_code == 422
    assert api.post("/jobs/submit", {"job": 3}, format="json").status_code == 422
    answer = api.post("/jobs/submit", {"script": "a\0b"}, format="json")
    assert "script" in answer.json()["errors"]


def test_others_see_and_cancel_nothing(api: APIClient, bob: Any) -> None:
    task = made(submit(api))
    other = client_of(bob)
    assert other.get(f"/jobs/query/{task.pk}").status_code == 404
    assert other.post(f"/jobs/cancel/{task.pk}").status_code == 404
    assert APIClient().get(f"/jobs/query/{task.pk}").status_code == 401
    assert submit(client_of(bob, "read", "submit")).status_code == 403


def test_an_address_may_end_with_a_slash(api: APIClient) -> None:
    answer = api.post("/jobs/submit/", {"script": "true"}, format="json")
    assert answer.status_code == 201
    assert api.get(f"/jobs/query/{answer.json()['job_id']}/").status_code == 200


def test_a_limit_has_an_end() -> None:
    with pytest.raises(ValueError, match="366 days"):
        older_words.seconds("400-00:00:00")


def test_its_addresses_say_what_they_take(api: APIClient) -> None:
    task = made(submit(api))
    for address in (
        "/jobs/submit",
        f"/jobs/query/{task.pk}",
        f"/jobs/cancel/{task.pk}",
    ):
        assert api.options(address).status_code == 200
