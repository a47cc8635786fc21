"""What the raw lane reads of a body is what the whole body says, or it does not read it."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from compass import asks
from inference.asked import strict_items

ITEMS: list[Any] = [
    [{"x": 1}], [[[1], []]], ["]", '], "model": "b"}'], [{"model": "a", "key": "]}"}], [None],
]  # fmt: skip
MODELS: list[Any] = ["tiny", "a@b", ["a"], ["a:1", "b@champion", "c"]]
KEYS: list[Any] = [None, "user 7", "]}", "[", "inputs:["]


def names_of(text: str) -> list[str]:
    """The names of an object's fields, those that come twice as well."""
    found: Any = json.loads(text, object_pairs_hook=list)
    return sorted(name for name, _ in found)


@pytest.mark.parametrize("indent", [None, 1])
def test_every_order_of_plain_fields_is_read(indent: int | None) -> None:
    for items, model, key in itertools.product(ITEMS, MODELS, KEYS):
        fields = {"model": model, "inputs": items} | ({"key": key} if key else {})
        for names in itertools.permutations(fields):
            text = json.dumps({name: fields[name] for name in names}, indent=indent)
            body = f"head{text}".encode()
            ask = asks.read(body, 4)
            assert ask is not None, text
            address, found, found_key, addresses = ask
            assert strict_items(found) == items
            assert found_key == key
            assert addresses == (model if isinstance(model, list) else None)
            assert address == (model if isinstance(model, str) else model[0])


@pytest.mark.parametrize("seed", range(8))
def test_a_body_that_was_tampered_with_is_never_read_as_another(seed: int) -> None:
    chance, read = random.Random(seed), 0
    pieces = [
        '"', "]", "[", "}", "{", ",", ":", "\\", " ", "\x00", '"model"', '"inputs"', '"key"',
        '],"key":"k"', ',"model":["a"]', ',"model":"z"', "]}", "[1]",
    ]  # fmt: skip
    for _ in range(4000):
        fields: list[tuple[str, Any]] = [
            ("model", chance.choice(MODELS)), ("inputs", chance.choice(ITEMS)),
        ]  # fmt: skip
        if (key := chance.choice(KEYS)) is not None:
            fields.append(("key", key))
        chance.shuffle(fields)
        text = json.dumps(dict(fields))
        for _ in range(chance.randint(1, 3)):
            at, end = sorted(chance.choices(range(len(text) + 1), k=2))
            cut = end if end - at < 12 else at
            text = text[:at] + chance.choice(["", *pieces]) + text[cut:]
        ask = asks.read(text.encode(), 0)
        if ask is None or (items := strict_items(ask[1])) is None:
            continue
        read += 1
        assert names_of(text) in (["inputs", "model"], ["inputs", "key", "model"]), text
        found = json.loads(text)
        assert found["inputs"] == items, text
        assert found.get("key") == ask[2], text
        model = found["model"]
        assert (list(dict.fromkeys(model)) if ask[3] else model) == (ask[3] or ask[0])
    assert read > 50


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"{", b'{"inputs": []}', b'{"key": "k", "inputs": [1]}',
        b'{"model": "a", "inputs": [1], "model": "b"}', b'{"model": "a", "inputs": {"x": [1]}}',
        b'{"model": "a", "key": "1", "inputs": [1], "key": "2"}',
        b'{"model": "a", "inputs": [1]} x', b'{"model": "a", "inputs": [1], "x": 1}',
        b'{"model": "a", "inputs": [1]' + b" " * 5000 + b"}",
    ],
)  # fmt: skip
def test_other_bodies_are_left_to_django(body: bytes) -> None:
    assert asks.read(body, 0) is None
