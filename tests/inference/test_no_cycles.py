from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from inference import predictor
from inference.entries import Facts
from registry.errors import BadItem


class Strict:
    uses_torch = False

    def encode(self, item: Any) -> Any:
        try:
            return item["x"]
        except KeyError:
            raise BadItem("It has no x.") from None

    def predict(self, encoded: list[Any]) -> list[dict[str, Any]]:
        return [{"y": one} for one in encoded]


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Huge(dict[str, Any]):
    """An item whose end can be seen."""


def test_a_bad_item_is_gone_with_its_answer(
    collector_off: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A record of the log that the test keeps would hold the error.
    monkeypatch.setattr(predictor.log, "disabled", True)
    facts = Facts(1, "m:1", "r", "d", 1)

    def ask() -> list[Any]:
        items = [Huge(x=1.0), Huge(z=[0.0] * 5000)]
        return [set(one) for one in predictor.answer(Strict(), items, facts)]

    assert ask() == [{"y"}, {"error"}]
    assert [one for one in gc.get_objects() if type(one) is Huge] == []
