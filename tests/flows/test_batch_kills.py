"""A batch over a file at two inference workers, which are killed, and whose broker forgets all."""

from __future__ import annotations

import csv
import io
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from compass.env import socket_path
from tests.flows.conftest import ROOT, Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

ROWS = 150_000


@pytest.fixture(scope="module")
def model(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "line.csv"
    rows = [(n % 20 / 20, n // 20 / 20) for n in range(400)]
    path.write_text("a,b,y\n" + "".join(f"{a},{b},{2 * a - b}\n" for a, b in rows))
    task = stack.post(
        "/training/tasks",
        recipe="tabular", dataset=stack.upload(path), model_name="line",
        params={"mode": "smoke_test"},
    )["id"]  # fmt: skip
    stack.until(
        lambda: stack.get(f"/tasks/{task}")["state"] == "completed", "it is trained"
    )
    return "line"


@pytest.fixture(scope="module")
def dataset(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("items") / "items.csv"
    with path.open("w") as file:
        file.write("id,a,b\n")
        file.writelines(f"i{n},{n % 997 / 997:.6f},0.5\n" for n in range(ROWS))
    return stack.upload(path)


@pytest.fixture
def second(stack: Stack) -> Iterator[subprocess.Popen[bytes]]:
    """Another inference worker on the same data."""
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("COMPASS_", "DJANGO_"))
        },
        "COMPASS_DATA_DIR": str(stack.directory),
        "COMPASS_NODE_NAME": "two",
    }
    command = [sys.executable, "-m", "celery", "-A", "compass", "worker"]
    command += ["-n", "inference@two", "-Q", "inference.two", "--pool", "threads"]
    command += ["--concurrency", "2", "--without-mingle", "--without-gossip"]
    log = (stack.directory / "second.log").open("wb")
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    log.close()
    try:
        stack.until(
            lambda: any(
                one["name"] == "inference@two" and one["state"] == "up"
                for one in stack.get("/inference/status")["workers"]
            ),
            "the second worker is up",
        )
        yield process
    finally:
        process.kill()
        process.wait()


def shards(stack: Stack, task: str) -> list[tuple[Any, ...]]:
    """The holder of each shard, and when it was done."""
    path = stack.directory / "compass.sqlite3"
    with closing(sqlite3.connect(path, timeout=30)) as database:
        sql = "SELECT holder, done_at FROM inference_shard WHERE task_id = ?"
        return database.execute(sql, [int(task)]).fetchall()


def done_by(stack: Stack, task: str) -> set[str]:
    return {holder for holder, done in shards(stack, task) if done}


def answers(stack: Stack, task: str) -> list[dict[str, str]]:
    found = stack.http.get(f"/api/v1/tasks/{task}/files/results.csv", timeout=120)
    return list(csv.DictReader(io.StringIO(found.text, newline="")))


def check(rows: list[dict[str, str]]) -> None:
    assert [row["id"] for row in rows] == [f"i{n}" for n in range(ROWS)]
    assert [row["row"] for row in rows] == [str(n + 1) for n in range(ROWS)]
    assert all(row["success"] == "true" and float(row["value"]) for row in rows)


def test_two_workers_compute_one_batch_and_it_survives_the_death_of_both(
    stack: Stack, model: str, dataset: str, second: subprocess.Popen[bytes]
) -> None:
    task = stack.post("/inference/batch", model=model, dataset=dataset)["id"]
    stack.until(
        lambda: len(done_by(stack, task)) == 2, "both workers have done shards", 120
    )
    second.kill()
    before = sum(bool(done) for _, done in shards(stack, task))
    stack.process("-n inference@").kill()
    with redis.Redis(unix_socket_path=str(socket_path(stack.directory))) as broker:
        broker.flushall()
    stack.until(
        lambda: stack.get(f"/tasks/{task}")["state"] == "completed",
        "it is completed",
        240,
    )
    found = stack.get(f"/tasks/{task}")
    assert before > 0
    assert found["attempt"] > 1
    assert found["result"]["success_count"] == ROWS
    check(answers(stack, task))
    assert shards(stack, task) == []


def test_a_cancelled_batch_goes_on_where_it_was(
    stack: Stack, model: str, dataset: str
) -> None:
    task = stack.post("/inference/batch", model=model, dataset=dataset)["id"]
    stack.until(lambda: done_by(stack, task), "a shard is done", 120)
    stack.post(f"/tasks/{task}/cancel")
    stack.until(
        lambda: stack.get(f"/tasks/{task}")["state"] == "cancelled", "it is cancelled"
    )
    done = {n for n, (_, at) in enumerate(shards(stack, task)) if at}
    assert 0 < len(done) < len(shards(stack, task))
    folder = Path(stack.directory) / "files" / "tasks" / task / "shards"
    written = {one.name: one.stat().st_mtime_ns for one in folder.iterdir()}
    stack.post(f"/tasks/{task}/retry")
    stack.until(
        lambda: (
            {n for n, (_, at) in enumerate(shards(stack, task)) if at} > done
            or stack.get(f"/tasks/{task}")["state"] == "completed"
        ),
        "it goes on",
        120,
    )
    for name, at in written.items():
        if (folder / name).exists():
            assert (folder / name).stat().st_mtime_ns == at
    stack.until(
        lambda: stack.get(f"/tasks/{task}")["state"] == "completed", "it is done", 240
    )
    check(answers(stack, task))
