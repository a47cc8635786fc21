"""What `manage.py models` prints, does, and by which exit code it fails."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from registry import trial
from registry.models import Alias, ModelEvent, ModelVersion, PromotionRule, Task
from tests.inference import tiny
from tests.inference.conftest import tiny_recipe  # noqa: F401
from tests.registry.model_archives import files, tar


@pytest.fixture(autouse=True)
def tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "run", lambda *_: {"signature": None})


@pytest.fixture
def two(alice: User) -> list[ModelVersion]:
    return [
        tiny.make_version("m", n, alice, metrics={"a": {"loss": n}}) for n in (1.0, 2.0)
    ]


def run(*words: Any) -> str:
    out = io.StringIO()
    call_command("models", *map(str, words), stdout=out)
    return out.getvalue()


def told(*words: Any) -> Any:
    return json.loads(run(*words, "--json"))


def code(*words: Any) -> int:
    with pytest.raises(CommandError) as caught:
        run(*words)
    assert str(caught.value).strip()
    return caught.value.returncode


@pytest.mark.parametrize("words", [(), ("list",), ("--json",), ("list", "--json")])
def test_models_are_listed_whether_the_verb_is_named_or_not(
    two: list[ModelVersion], words: tuple[str, ...]
) -> None:
    assert "m:2" in run(*words)


@pytest.mark.parametrize(
    "words", [("m",), ("show", "m"), ("list", "m"), ("--json", "m")]
)
def test_a_model_is_shown_by_its_name_alone(
    two: list[ModelVersion], words: tuple[str, ...]
) -> None:
    out = run(*words)
    assert "m:1" in out
    assert "loss" in out


def test_a_version_is_shown_whole(two: list[ModelVersion]) -> None:
    assert told("show", "m:1")["digest"] == two[0].digest
    assert told("m:1")["params"] == {"seed": 7}


def test_a_version_goes_out_and_comes_back_with_the_same_digest(
    two: list[ModelVersion], tmp_path: Path
) -> None:
    target = tmp_path / "out.tar"
    found = told("export", "m:1", "--output", target)
    assert found["digest"] == two[0].digest
    assert code("export", "m:1", "--output", target) == 1  # nothing is overwritten
    back = told("import", target)
    assert (back["address"], back["digest"]) == ("m:3", two[0].digest)
    other = told("import", target, "--name", "n", "--owner", "alice")
    assert (other["address"], other["owner"]) == ("n:1", "alice")
    assert target.exists()


def test_a_refused_import_is_wrong_use_and_leaves_nothing(
    db: None, tmp_path: Path
) -> None:
    file = tmp_path / "m.tar"
    file.write_bytes(tar(files(**{"metrics.json": b"\x80\x04."})))
    assert code("import", file, "--name", "m") == 2
    file.write_bytes(tar(files()))
    assert code("import", file) == 2
    assert code("import", file, "--name", "a b") == 2
    assert code("import", tmp_path / "none", "--name", "m") == 2
    assert code("import", file, "--name", "m", "--owner", "nobody") == 2
    assert not ModelVersion.objects.exists()
    assert told("import", file, "--name", "m")["version"] == 1


def test_an_alias_is_moved_and_removed_with_a_history(two: list[ModelVersion]) -> None:
    assert "m@champion is m:2 now" in run("alias", "m", "champion", 2)
    assert told("alias", "m", "champion", 1)["version"] == 1
    assert code("alias", "m", "champion") == 2
    assert code("alias", "m", "champion", 1, "--remove") == 2
    assert code("alias", "m", "latest", 1) == 2
    assert code("alias", "m", "champion", 9) == 1
    run("alias", "m", "champion", "--remove")
    assert code("alias", "m", "champion", "--remove") == 1
    assert not Alias.objects.exists()
    found = told("history", "m", "--alias", "champion")
    assert [one["verb"] for one in found] == ["remove", "move", "move"]
    assert {one["by"] for one in found} == {"command line"}


def test_a_version_is_deleted_by_its_number_alone(
    two: list[ModelVersion], submit: Callable[..., Task]
) -> None:
    assert code("delete", "m") == 2
    run("alias", "m", "champion", 1)
    assert code("delete", "m:1") == 1
    task = submit(kind="predict", lane="inference", params={"version_id": two[1].pk})
    assert code("delete", "m:2") == 1
    task.request_cancel()
    assert "m:2 was deleted" in run("delete", "m:2")
    assert ModelEvent.objects.filter(verb="delete").count() == 1
    assert code("delete", "m:2") == 1


def test_two_versions_are_compared(two: list[ModelVersion]) -> None:
    found = told("compare", "m:2", "m:1")["metrics"]
    assert found == {"a.loss": {"version": 2.0, "other": 1.0, "difference": 1.0}}
    assert "a.loss" in run("compare", "m:2", "m:1")
    assert code("compare", "m:2", "m:9") == 1


def test_the_rule_that_promotes_is_set_shown_and_removed(
    two: list[ModelVersion], bob: User
) -> None:
    assert "no alias" in run("promote", "m")
    words = ("--metric", "a.loss", "--direction", "lower")
    assert "lower a.loss" in run("promote", "m", *words)
    assert told("promote", "m")["promotion"]["metric"] == "a.loss"
    tiny.make_version("m", 3.0, bob, metrics={"a": {"loss": 0.5}})
    assert Alias.objects.get().version.number == 3
    for wrong in (["--metric", "x"], [*words, "--minimum-difference", "-1"]):
        assert code("promote", "m", *wrong) == 2
    run("promote", "m", "--remove")
    assert not PromotionRule.objects.exists()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("show", "none"), 1), (("none",), 1), (("show", "a b"), 1),
        (("history", "none"), 1), (("export", "none:1"), 1), (("compare", "m"), 1),
    ],
)  # fmt: skip
def test_what_is_not_there_fails(db: None, words: tuple[str, ...], wanted: int) -> None:
    assert code(*words) == wanted
