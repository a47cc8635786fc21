"""Two trainings that publish the same model at the same moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry import store


def written(directory: Path) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    return directory


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return written(tmp_path / "output")


@pytest.fixture
def same(tmp_path: Path) -> Path:
    return written(tmp_path / "same")


def test_the_same_model_may_come_into_being_at_the_last_moment(
    output: Path, same: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = store.sync

    def meanwhile(path: Path) -> None:
        sync(path)
        if path == output and same.exists():
            store.publish_model(same)

    monkeypatch.setattr(store, "sync", meanwhile)
    exists = Path.exists
    monkeypatch.setattr(
        Path, "exists", lambda self: self.name != DIGEST and exists(self)
    )
    found = store.publish_model(output)
    monkeypatch.undo()
    assert found == (DIGEST, 2)
    assert (store.model_path(DIGEST) / "config.json").read_text() == "{}"
    assert not output.exists()


def test_the_same_model_may_be_cleaned_away_at_the_last_moment(
    output: Path, same: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish_model(same)
    target, replace, calls = store.model_path(DIGEST), Path.replace, []

    def clean(self: Path, other: Path) -> Any:
        calls.append(other)
        try:
            return replace(self, other)
        finally:
            if len(calls) == 1:
                target.rename(target.with_name("cleaned"))

    monkeypatch.setattr(Path, "replace", clean)
    assert store.publish_model(output) == (DIGEST, 2)
    assert calls == [target, target]
    assert (target / "config.json").exists()


DIGEST = "f0c39c917b58f5653c97df32cdd5ccd76fea1db8b14bff451fa1efa7b73b2553"
