"""Who moved what and when, the rule that promotes, comparison, lineage and deletion."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from rest_framework.test import APIClient

from registry import figures, promotion, publish, versions
from registry.errors import Problem
from registry.models import Model, ModelEvent, ModelVersion, PromotionRule, Task
from tests.conftest import client_of
from tests.inference import tiny
from tests.inference.conftest import tiny_recipe  # noqa: F401

M = "/api/v1/models/m"
RULE = {"metric": "loss", "direction": "lower", "minimum_difference": 0.1}


@pytest.fixture
def make(alice: User) -> Callable[..., ModelVersion]:
    """The next version of m with that loss."""

    def make(loss: Any = 0.5, owner: User = alice, **changes: Any) -> ModelVersion:
        metrics = {} if loss is None else {"loss": loss}
        return tiny.make_version("m", 1.0, owner, metrics=metrics, **changes)

    return make


def point(client: APIClient, alias: str, number: int) -> Any:
    where = f"{M}/aliases/{alias}"
    return client.post(where, {"version": number}, format="json")


def history(client: APIClient, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"{M}/history", query).json()["results"]
    return found


def champion() -> int | None:
    row = Model.objects.get(name="m").aliases.filter(name="champion").first()
    return row.version.number if row else None


def test_each_move_of_an_alias_says_who_when_from_and_to(
    make: Callable[..., ModelVersion], api: APIClient, admin: User, time: Any
) -> None:
    make()
    make()
    point(api, "champion", 1)
    time.forward(minutes=5)
    point(client_of(admin), "champion", 2)
    api.delete(f"{M}/aliases/champion")
    found = history(api, alias="champion")
    assert [(e["verb"], e["before"], e["after"], e["by"]) for e in found] == [
        ("remove", 2, None, "alice"),
        ("move", 1, 2, "admin"),
        ("move", None, 1, "alice"),
    ]
    assert found[1]["at"] == "2026-01-05T09:05:00Z"
    shown = api.get(M).json()["history"]
    assert [one["verb"] for one in shown[:2]] == ["remove", "move"]
    assert [one["verb"] for one in shown[3:]] == ["register", "register"]


def test_a_move_to_where_the_alias_is_already_is_no_event(
    make: Callable[..., ModelVersion], api: APIClient
) -> None:
    make()
    point(api, "champion", 1)
    point(api, "champion", 1)
    assert len(history(api, alias="champion")) == 1


def test_a_refused_move_leaves_no_event(
    make: Callable[..., ModelVersion], api: APIClient, bob: User
) -> None:
    make()
    assert point(client_of(bob), "champion", 1).status_code == 403
    assert history(api, alias="champion") == []
    assert api.get(f"{M}/aliases/champion").status_code == 404


def test_an_alias_of_a_version_that_is_gone_meanwhile_is_refused(
    make: Callable[..., ModelVersion],
) -> None:
    version = make()
    ModelVersion.objects.all().delete()
    with pytest.raises(Problem) as caught:
        version.model.point("champion", version)
    assert caught.value.code == "unknown_model"


def test_the_rule_promotes_what_is_better_by_enough_and_says_why(
    make: Callable[..., ModelVersion], api: APIClient
) -> None:
    make(0.5)
    assert api.put(f"{M}/promotion", RULE, format="json").status_code == 200
    assert champion() is None
    make(0.5)
    assert champion() == 2  # nobody had the alias
    make(0.45)
    assert champion() == 2  # better, not by enough
    make(0.3)
    assert champion() == 4
    make(0.9)
    assert champion() == 4
    found = history(api, alias="champion")
    assert [(e["verb"], e["before"], e["after"]) for e in found] == [
        ("keep", 4, 4), ("promote", 2, 4), ("keep", 2, 2), ("promote", None, 2),
        ("rule", None, None),
    ]  # fmt: skip
    assert {one["by"] for one in found} == {"alice"}
    assert "0.3, better enough than 0.5" in found[1]["text"]
    assert "m:3: loss is 0.45, not better enough than 0.5" in found[2]["text"]


@pytest.mark.parametrize("loss", [None, "0.1", True, [0.1], {"x": 0.1}])
def test_what_is_no_number_is_never_promoted(
    make: Callable[..., ModelVersion], api: APIClient, loss: Any
) -> None:
    make(0.5)
    point(api, "champion", 1)
    api.put(f"{M}/promotion", RULE, format="json")
    make(loss)
    assert champion() == 1
    assert "no finite loss" in history(api, alias="champion")[0]["text"]


@pytest.mark.parametrize("direction", ["higher", "lower"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_nan_or_an_infinity_is_never_better_and_nothing_is_better_than_it(
    value: float, direction: str
) -> None:
    rule = PromotionRule(metric="loss", direction=direction)
    for old in ({"loss": 1.0}, None):
        assert promotion.decide(rule, {"loss": value}, old)[0] is False
    assert promotion.decide(rule, {"loss": 1.0}, {"loss": value})[0] is False


def test_an_equal_version_is_not_better() -> None:
    rule = PromotionRule(metric="a.b", direction="higher")
    same = {"a": {"b": 1}}
    assert promotion.decide(rule, same, same)[0] is False
    assert promotion.decide(rule, {"a": {"b": 2}}, same)[0] is True


def test_the_rule_moves_nothing_that_its_owner_could_not_move(
    make: Callable[..., ModelVersion], api: APIClient, bob: User
) -> None:
    make(0.5)
    point(api, "champion", 1)
    api.put(f"{M}/promotion", RULE, format="json")
    make(0.0, bob)
    assert champion() == 1
    assert "m:2 is not of alice" in history(api, alias="champion")[0]["text"]


def test_a_rule_of_staff_holds_for_everybody(
    make: Callable[..., ModelVersion], admin: User, bob: User
) -> None:
    make(0.5)
    client_of(admin).put(f"{M}/promotion", RULE, format="json")
    make(0.4, bob)
    assert champion() == 2


def test_a_registration_that_fails_promotes_nothing(
    make: Callable[..., ModelVersion], api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(0.5)
    api.put(f"{M}/promotion", RULE, format="json")

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(Model, "point", fail)
    with pytest.raises(RuntimeError), transaction.atomic():
        make(0.1)
    assert (champion(), ModelVersion.objects.count()) == (None, 1)
    assert ModelEvent.objects.filter(verb="register").count() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"metric": ""}, {"direction": "up"}, {"minimum_difference": -1},
        {"minimum_difference": 1e301}, {"alias": "latest"}, {"alias": "a b"},
        {"metric": 3}, {"more": 1},
    ],
)  # fmt: skip
def test_a_wrong_rule_is_refused_by_field(
    make: Callable[..., ModelVersion], api: APIClient, wrong: dict[str, Any]
) -> None:
    make()
    response = api.put(f"{M}/promotion", {**RULE, **wrong}, format="json")
    assert response.status_code == 422
    assert set(response.json()["errors"]) == set(wrong)
    assert api.get(f"{M}/promotion").status_code == 404


def test_only_who_may_move_the_alias_sets_the_rule(
    make: Callable[..., ModelVersion], api: APIClient, bob: User, admin: User
) -> None:
    make()
    other = client_of(bob)
    assert other.put(f"{M}/promotion", RULE, format="json").status_code == 403
    assert api.put(f"{M}/promotion", RULE, format="json").status_code == 200
    assert other.put(f"{M}/promotion", RULE, format="json").status_code == 403
    assert other.delete(f"{M}/promotion").status_code == 403
    assert api.get(M).json()["promotion"]["metric"] == "loss"
    assert client_of(admin).delete(f"{M}/promotion").status_code == 204
    assert api.delete(f"{M}/promotion").status_code == 204
    assert api.get(M).json()["promotion"] is None


def test_two_versions_are_compared_by_every_figure(
    api: APIClient, alice: User, submit: Callable[..., Task]
) -> None:
    one = {"loss": 0.5, "test": {"rmse": 2.0, "kind": "x"}, "only": 1}
    other = {"loss": 0.25, "test": {"rmse": 3.0}}
    config = {"recipe": "tiny", "params": {"seed": 8}, "versions": {}}
    tiny.make_version("m", 1.0, alice, metrics=one)
    tiny.make_version("m", 2.0, alice, metrics=other, config=config)
    body = api.get(f"{M}/versions/2/compare").json()
    assert body["version"]["address"] == "m:2"
    assert body["other"]["address"] == "m:1"
    assert body["metrics"] == {
        "loss": {"version": 0.25, "other": 0.5, "difference": -0.25},
        "test.rmse": {"version": 3.0, "other": 2.0, "difference": 1.0},
        "only": {"version": None, "other": 1.0, "difference": None},
    }
    assert body["params"] == {"seed": {"version": 8, "other": 7}}
    assert (body["same_recipe"], body["same_dataset"]) == (True, None)
    point(api, "champion", 1)
    for other_address in ("1", "m:1", "m@champion"):
        again = api.get(f"{M}/versions/2/compare", {"with": other_address})
        assert again.json()["metrics"] == body["metrics"]


@pytest.mark.parametrize(
    ("number", "other", "status"),
    [(1, "", 422), (9, "1", 404), (1, "9", 404), (1, "x", 404), (1, "a b", 422)],
)
def test_a_comparison_with_what_is_not_there_is_refused(
    make: Callable[..., ModelVersion],
    api: APIClient,
    number: int,
    other: str,
    status: int,
) -> None:
    make()
    response = api.get(f"{M}/versions/{number}/compare", {"with": other})
    assert response.status_code == status


def test_figures_are_finite_numbers_at_any_level() -> None:
    metrics = {"a": 1, "b": {"c": 2.5, "d": True}, "e": math.nan, "f": 10**400}
    assert figures.figures(metrics) == {"a": 1.0, "b.c": 2.5}


def test_the_lineage_tells_task_data_parameters_code_parent_and_children(
    make: Callable[..., ModelVersion], api: APIClient, submit: Callable[..., Task]
) -> None:
    first = make()
    task = submit(params={"dataset": "built_in"}, name="a training")
    found = publish.prepare(tiny.model_directory(2.0))
    publish.register(found, task, "m", dataset_sha256="b" * 64)
    body = api.get(f"{M}/versions/2/lineage").json()
    assert body["task"]["id"] == str(task.pk)
    assert body["dataset"] == {"name": "built_in", "sha256": "b" * 64}
    assert body["params"] == {"seed": 7}
    assert (len(body["code"]), body["seed"]) == (64, 7)
    assert body["parent"] == {"address": "m:1", "digest": first.digest}
    assert api.get(f"{M}/versions/1/lineage").json()["children"] == ["m:2"]


def test_a_version_that_a_live_batch_uses_is_not_deleted(
    make: Callable[..., ModelVersion], api: APIClient
) -> None:
    make()
    body = {"model": "m", "inputs": [{"x": 1}]}
    task = api.post("/api/v1/inference/batch", body, format="json").json()["id"]
    response = api.delete(f"{M}/versions/1")
    assert (response.status_code, response.json()["code"]) == (409, "conflict")
    assert f"Task {task} (predict) uses m:1" in response.json()["detail"]
    api.post(f"/api/v1/tasks/{task}/cancel")
    assert api.delete(f"{M}/versions/1").status_code == 204
    assert history(api)[0]["verb"] == "delete"


def test_a_version_that_a_live_training_begins_with_is_not_deleted(
    make: Callable[..., ModelVersion], api: APIClient, submit: Callable[..., Task]
) -> None:
    make()
    task = submit(params={"recipe": "tiny", "params": {"model": "m:1"}})
    response = api.delete(f"{M}/versions/1")
    assert response.status_code == 409
    assert f"Task {task.pk} (train)" in response.json()["detail"]


def test_a_batch_is_not_accepted_for_a_version_that_is_gone_meanwhile(
    make: Callable[..., ModelVersion],
    api: APIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from inference import batches

    version = make()
    monkeypatch.setattr(batches, "version_for", lambda *_: version)
    api.delete(f"{M}/versions/1")
    body = {"model": "m", "inputs": [{"x": 1}]}
    response = api.post("/api/v1/inference/batch", body, format="json")
    assert (response.status_code, response.json()["code"]) == (404, "unknown_model")
    assert not Task.objects.exists()


def test_latest_is_the_newest_that_is_left(
    make: Callable[..., ModelVersion], api: APIClient
) -> None:
    make()
    make()
    assert api.get(M).json()["latest"]["version"] == 2
    api.delete(f"{M}/versions/2")
    assert api.get(M).json()["latest"]["version"] == 1
    make()
    assert api.get(M).json()["latest"]["version"] == 3


@pytest.mark.django_db(transaction=True)
def test_of_a_deletion_and_a_move_at_once_one_is_refused(
    alice: User, transactional_db: None
) -> None:
    """Never does an alias name a version that is gone."""
    for number in range(1, 7):
        version = tiny.make_version("m", 1.0, alice)
        refused: list[str] = []

        def attempt(work: Callable[[], Any], refused: list[str] = refused) -> None:
            try:
                work()
            except Problem as problem:
                refused.append(problem.code)
            finally:
                connection.close()

        works: list[Callable[[], Any]] = [
            lambda v=version: versions.delete(v),  # type: ignore[misc]
            lambda v=version: v.model.point("champion", v),  # type: ignore[misc]
        ]
        threads = [threading.Thread(target=attempt, args=(one,)) for one in works]
        for one in threads[:: -1 if number % 2 else 1]:
            one.start()
        for one in threads:
            one.join()
        assert len(refused) == 1
        alias = version.model.aliases.first()
        assert (alias is None) is (refused == ["unknown_model"])
        if alias is not None:
            version.model.remove(alias)


@pytest.mark.django_db(transaction=True)
def test_registrations_at_once_promote_the_best_and_take_distinct_numbers(
    alice: User, transactional_db: None
) -> None:
    first = tiny.make_version("m", 1.0, alice, metrics={"loss": 1.0})
    first.model.set_rule(owner=alice, metric="loss", direction="lower")
    found = [
        publish.prepare(tiny.model_directory(n, metrics={"loss": loss}))
        for n, loss in enumerate((0.5, 0.2, 0.4, 0.3))
    ]

    def register(one: Any) -> None:
        with transaction.atomic():
            Model.objects.get(name="m").register(
                digest=one.digest, weights_sha256=one.weights_sha256, size=one.size,
                recipe=one.recipe, params=one.params, metrics=one.metrics,
                signature=one.signature, owner=alice,
            )  # fmt: skip
        connection.close()

    threads = [threading.Thread(target=register, args=(one,)) for one in found]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    numbers = ModelVersion.objects.values_list("number", flat=True)
    assert sorted(numbers) == [1, 2, 3, 4, 5]
    alias = Model.objects.get().aliases.get(name="champion")
    assert alias.version.metrics == {"loss": 0.2}
