"""Scripts through a real stack, from HTTP to the last process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from compass.client import Compass
from tests.flows.conftest import Stack
from training import marks

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

AWAY = (
    "(env -i setsid bash -c 'trap \"\" TERM; while :; do sleep 1; done' <&- >&- 2>&- &)\n"
    "echo on\nsleep 600\n"
)


def until_final(stack: Stack, task: str, seconds: float = 60) -> Any:
    return stack.until(
        lambda: (
            (row := stack.get(f"/tasks/{task}"))["state"]
            in ("completed", "failed", "cancelled")
            and row
        ),
        "it ends",
        seconds,
    )


def begun(stack: Stack, script: str = AWAY, **fields: Any) -> str:
    task = str(stack.post("/scripts", script=script, **fields)["id"])
    stack.until(lambda: "on" in stack.get(f"/tasks/{task}/logs")["text"], "it runs")
    return task


def living(stack: Stack) -> list[int]:
    node = stack.get("/nodes")["results"]
    names = [one["name"] for one in node if one["lane"] == "cpu"]
    return [
        pid
        for name in names
        for pid in marks.carriers(marks.of_node(f"{stack.directory} {name}"))
    ]


def test_a_script_runs_and_its_files_come_back(stack: Stack) -> None:
    task = stack.post(
        "/scripts",
        script="echo $COMPASS_TASK_ID; mkdir -p out; echo x > out/a.txt; env",
        env={"MINE": "1"},
        resources={"cpus": 1, "memory": 2**30},
    )
    row = until_final(stack, task["id"])
    assert (row["state"], row["result"]["exit_code"]) == ("completed", 0)
    log = stack.get(f"/tasks/{task['id']}/logs")["text"]
    assert log.startswith(f"{task['id']}\n")
    assert "MINE=1" in log
    for word in (
        "SECRET",
        "DATABASE",
        "BROKER",
        "DATA_DIR",
        str(stack.directory / "broker"),
    ):
        assert word not in log
    answer = stack.http.get(f"/api/v1/tasks/{task['id']}/files/out/a.txt")
    assert answer.text == "x\n"


def test_an_array_with_a_task_after_it(stack: Stack) -> None:
    head = stack.post("/scripts", script="echo $SLURM_ARRAY_TASK_ID", array="1-4%2")
    after = stack.post(
        "/scripts", script="exit 3", depends_on={"afterok": [head["id"]]}
    )
    never = stack.post("/scripts", script="true", depends_on={"afterok": [after["id"]]})
    assert until_final(stack, head["id"])["state"] == "completed"
    assert until_final(stack, after["id"])["reason"] == "exit_status"
    assert until_final(stack, never["id"])["reason"] == "dependency_failed"


def test_cancel_leaves_no_process(stack: Stack) -> None:
    task = begun(stack)
    assert len(living(stack)) >= 4
    began = time.monotonic()
    stack.post(f"/tasks/{task}/cancel")
    stack.until(lambda: not living(stack), "nothing is left", 10)
    assert time.monotonic() - began < 5
    assert until_final(stack, task)["state"] == "cancelled"


@pytest.mark.parametrize("victim", ["cpu@", "forkserver", "job"])
def test_kill_9_leaves_no_process_and_runs_nothing_again(
    stack: Stack, victim: str
) -> None:
    task = begun(stack)
    if victim == "job":
        row = stack.get(f"/tasks/{task}/attempts")["results"][-1]
        psutil.Process(row["pid"]).kill()
    else:
        stack.process(victim).kill()
    stack.until(lambda: not living(stack), "nothing is left", 20)
    row = until_final(stack, task, 90)
    assert row["state"] == "failed"
    assert row["reason"] in ("node_lost", "killed")
    assert row["attempt"] == 1


def test_the_older_routes_and_the_client_run_scripts(
    stack: Stack, tmp_path: Path
) -> None:
    body = {
        "job": {"name": "j", "time_limit": "0:05", "standard_output": "out-%j.txt"},
        "script": "#!/bin/bash\necho out; echo err >&2; exit 4\n",
    }
    job = stack.http.post("/jobs/submit", json=body).json()["job_id"]
    row = stack.until(
        lambda: (
            (found := stack.http.get(f"/jobs/query/{job}").json())["state"] == "FAILED"
            and found
        ),
        "it ends",
    )
    assert row["detail"]["exit_code"] == 4
    assert sorted(row["job_log"]["stdout"].split()) == ["err", "out"]
    assert row["time"]["limit"] == 300
    key = stack.http.headers["Authorization"].removeprefix("Bearer ")
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with Compass(str(stack.http.base_url), key) as compass:
        upload = compass.upload(tmp_path / "a.csv")
        done = compass.submit_script("cat in.csv", files={"in.csv": upload}).wait(60)
        assert done.state == "completed"
        assert done.logs()["text"] == "a,b\n1,2\n"
