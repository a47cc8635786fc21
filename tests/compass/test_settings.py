from __future__ import annotations

import re
from pathlib import Path

import pytest

from compass import env
from compass.env import Environment

ROOT = Path(__file__).resolve().parent.parent.parent


def documented() -> dict[str, str]:
    """The settings of docs/settings.md with their defaults."""
    text = (ROOT / "docs" / "settings.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]+) \|", text, re.MULTILINE)
    return {name: default.strip().strip("`") for name, default in rows}


def read_names() -> set[str]:
    """Every name that the code asks the environment for."""
    text = (ROOT / "compass" / "env.py").read_text()
    prefixed = re.findall(r"\benv\.\w+\(\s*\"([A-Z_]+)\"", text)
    plain = re.findall(r"\bplain\.\w+\(\s*\"([A-Z_]+)\"", text)
    client = (ROOT / "compass" / "nearby.py").read_text()
    clients = re.findall(r"\"((?:COMPASS|REGISTRY)_[A-Z_]+)\"", client)
    return {f"COMPASS_{name}" for name in prefixed} | {*plain, *clients}


def test_every_setting_is_documented_and_nothing_else() -> None:
    assert set(documented()) == read_names()


def test_the_documented_defaults_are_the_real_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in read_names():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COMPASS_DATA_DIR", str(tmp_path))
    environment = env.read()
    for name, shown in documented().items():
        field = name.removeprefix("COMPASS_").lower()
        if field not in Environment.__annotations__ or shown.startswith("("):
            continue
        value = getattr(environment, field)
        real = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        assert shown == real, name
