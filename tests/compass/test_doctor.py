from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command

from compass import checks, doctor, health
from compass.doctor import Finding
from compass.lock import DirectoryLock

pytestmark = pytest.mark.django_db


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {
        "database": {"ok": True, "detail": "sqlite"},
        "broker": {"ok": True, "detail": "answers"},
    }
    monkeypatch.setattr(health, "examine", lambda: found)
    return found


def by_name() -> dict[str, Finding]:
    return {one.name: one for one in doctor.examine()}


def test_a_sound_installation_passes(
    parts: dict[str, dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    lock = DirectoryLock(settings.DATA_DIR)
    lock.take()
    try:
        call_command("doctor")
    finally:
        lock.release()
    assert "BAD" not in capsys.readouterr().out


def test_what_is_wrong_has_a_hint_and_ends_with_1(
    parts: dict[str, dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    parts["broker"] = {"ok": False, "detail": "ConnectionError"}
    with pytest.raises(SystemExit) as caught:
        call_command("doctor", "--json")
    assert caught.value.code == 1
    told = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert told["broker"]["ok"] is False
    assert "manage.py up" in told["broker"]["hint"]
    assert told["database"]["ok"] is True


def test_a_key_that_others_can_read_is_found(
    parts: dict[str, dict[str, object]],
) -> None:
    path: Path = settings.DATA_DIR / "key"
    path.parent.mkdir(exist_ok=True)
    path.write_text("cmp_x")
    path.chmod(0o644)
    try:
        assert by_name()["key"].ok is False
        assert [one.id for one in checks.check_key_file(None)] == ["compass.W003"]
        path.chmod(0o600)
        assert by_name()["key"].ok is True
        assert checks.check_key_file(None) == []
    finally:
        path.unlink()


def test_a_check_that_breaks_is_a_finding(
    parts: dict[str, dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> list[object]:
        raise RuntimeError("no driver")

    monkeypatch.setattr(doctor.devices, "gpus", fail)
    assert by_name()["gpus"].detail == "RuntimeError: no driver"
    monkeypatch.setattr(health, "examine", fail)
    assert by_name()["parts"].ok is False


def test_misspelt_settings_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPASS_PROT", "1")
    found = checks.check_names(None)
    assert [one.id for one in found] == ["compass.W001"]
    assert "COMPASS_PROT" in found[0].msg


def test_far_more_than_the_machine_has_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert checks.check_capacity(None) == []
    monkeypatch.setattr(
        settings,
        "ENVIRONMENT",
        dataclasses.replace(settings.ENVIRONMENT, cpus=8000, memory=63 * 1024**4),
    )
    found = checks.check_capacity(None)
    assert [one.id for one in found] == ["compass.W004"] * 2
    assert found[0].msg.startswith("COMPASS_CPUS is 8000; this machine has ")
    assert found[1].msg.startswith("COMPASS_MEMORY is ")
