from __future__ import annotations

import pytest

from registry.addresses import resolve
from registry.errors import Problem
from registry.models import ModelVersion
from tests.inference import tiny
from tests.inference.conftest import tiny_recipe  # noqa: F401


@pytest.fixture
def versions(db: None) -> list[ModelVersion]:
    return [tiny.make_version("m", float(n)) for n in range(3)]


@pytest.mark.parametrize(
    ("address", "number"),
    [("m", 3), ("m:1", 1), ("m:02", 2), ("m@latest", 3), ("m@champion", 1)],
)
def test_an_address_names_one_version(
    versions: list[ModelVersion], address: str, number: int
) -> None:
    versions[0].model.point("champion", versions[0])
    assert resolve(address).number == number


def test_latest_follows_the_highest_number_that_is_there(
    versions: list[ModelVersion],
) -> None:
    versions[2].delete()
    assert resolve("m@latest").number == 2
    assert resolve("m").number == 2


def test_an_alias_moves_at_once(versions: list[ModelVersion]) -> None:
    model = versions[0].model
    model.point("champion", versions[0])
    model.point("champion", versions[1])
    assert resolve("m@champion").number == 2


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("n", "there are m"),
        ("m:9", "it has the versions 1, 2, 3"),
        ("m:0", "it has the versions 1, 2, 3"),
        ("m@best", "it has the aliases latest, champion"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    versions: list[ModelVersion], address: str, words: str
) -> None:
    versions[0].model.point("champion", versions[0])
    with pytest.raises(Problem) as caught:
        resolve(address)
    assert caught.value.code == "unknown_model"
    assert words in caught.value.detail


@pytest.mark.parametrize(
    "address", ["", ":1", "m:", "m:x", "m:1@a", "m@a:1", "m:" + "9" * 30, "a/b", "m\n"]
)
def test_what_is_no_address_is_invalid(
    versions: list[ModelVersion], address: str
) -> None:
    with pytest.raises(Problem) as caught:
        resolve(address)
    assert caught.value.code == "invalid"


def test_without_any_model_it_says_so(db: None) -> None:
    with pytest.raises(Problem, match="no model has been registered yet"):
        resolve("m")


def test_a_model_without_versions_says_so(versions: list[ModelVersion]) -> None:
    ModelVersion.objects.all().delete()
    with pytest.raises(Problem) as caught:
        resolve("m")
    assert caught.value.code == "unknown_model"
