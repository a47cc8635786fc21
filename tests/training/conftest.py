from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry import recipes, store
from registry.models import Node, Task
from tests.fake_recipe import PATH
from training import ending, preparation, supervisor
from training.launcher import PRELOAD, Launcher
from training.supervisor import Supervisor


@pytest.fixture(scope="session")
def launcher() -> Launcher:
    own = ["tests.fake_recipe_known", "tests.training.frequent_checkpoints"]
    launcher = Launcher([*own, *PRELOAD])
    launcher.warm_up()
    return launcher


@pytest.fixture(autouse=True)
def fake_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The fake recipe is known here and nowhere else."""
    monkeypatch.setitem(recipes.BUILT_IN, "fake", PATH)
    recipes._paths.cache_clear()
    yield
    recipes._paths.cache_clear()
    recipes.get.cache_clear()


@pytest.fixture
def train(
    submit: Callable[..., Task],
    node: Node,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Callable[..., Task]]:
    """Makes an assigned training by the fake recipe."""
    # The test's own connection holds its transaction.
    for module in (supervisor, ending):
        monkeypatch.setattr(module, "close_old_connections", lambda: None)
    monkeypatch.setattr(
        preparation, "dataset_path", lambda dataset: tmp_path / "data.csv"
    )

    def train(fields: dict[str, Any] | None = None, **params: Any) -> Task:
        task = submit(
            params={
                "recipe": "fake",
                "params": params,
                "dataset": "1",
                "dataset_sha256": "0" * 64,
                "dataset_name": "one",
                "model_name": "fake",
            },
            **(fields or {}),
        )
        task.assign(node)
        return task

    return train


@pytest.fixture
def supervise(launcher: Launcher, node: Node) -> Callable[..., Supervisor]:
    """Runs an attempt to its end; `each_tick` is called at every look of the supervisor."""

    def supervise(
        task: Task,
        each_tick: Callable[[], bool | None] = lambda: False,
        is_stopping: Callable[[], bool] = lambda: False,
        **options: Any,
    ) -> Supervisor:
        supervisor = Supervisor(
            task,
            node,
            launcher,
            is_revoked=lambda: bool(each_tick()),
            is_stopping=is_stopping,
            **options,
        )
        supervisor.run()
        return supervisor

    return supervise


def log_of(task: Task) -> str:
    return (store.task_path(task.pk) / "log.txt").read_text()
