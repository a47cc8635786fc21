from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from compass.installation import make_first_user, write_whole
from registry.models import ApiKey
from registry.models.key import SCOPES
from tests.conftest import Clock


@pytest.mark.django_db
def test_a_new_installation_gets_one_user_and_one_key(tmp_path: Path) -> None:
    made = make_first_user(tmp_path)
    assert made is not None
    path = tmp_path / "key"
    assert path.read_text() == made.key
    assert path.stat().st_mode & 0o777 == 0o600
    assert [name.name for name in tmp_path.iterdir()] == ["key"]
    row = ApiKey.objects.get()
    assert row.sha256 == ApiKey.digest(made.key)
    assert set(row.scopes) == set(SCOPES)
    user = User.objects.get()
    assert user.is_superuser
    assert user.check_password(made.password)
    assert made.password not in user.password


@pytest.mark.django_db
def test_all_processes_sign_with_the_secret_kept_first(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMPASS_SECRET_KEY", raising=False)
    settings.SECRET_KEY = "first"
    call_command("migrate", verbosity=0)
    settings.SECRET_KEY = "second"
    call_command("migrate", verbosity=0)
    assert settings.SECRET_KEY == "first"
    assert (settings.DATA_DIR / "secret").read_text() == "first"


@pytest.mark.django_db
def test_a_secret_that_was_given_is_not_kept(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPASS_SECRET_KEY", "given")
    call_command("migrate", verbosity=0)
    assert not (settings.DATA_DIR / "secret").exists()


@pytest.mark.django_db
def test_an_installation_with_users_is_left_alone(tmp_path: Path) -> None:
    User.objects.create_user("alice")
    assert make_first_user(tmp_path) is None
    assert not (tmp_path / "key").exists()


@pytest.mark.django_db
def test_without_a_key_file_there_is_no_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        make_first_user(tmp_path)
    assert not User.objects.exists()
    assert not (tmp_path / "key").exists()


def test_createkey_shows_a_key_that_works(
    alice: User, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("createkey", "alice", name="laptop", scopes="read,submit")
    key = capsys.readouterr().out.strip()
    row = ApiKey.objects.valid().get(sha256=ApiKey.digest(key))
    assert (row.user, row.name, row.scopes) == (alice, "laptop", ["read", "submit"])
    assert row.expires_at is None


def test_a_key_expires_when_it_was_said(
    alice: User, time: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("createkey", "alice", "--expires-days", "2", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["user"] == "alice"
    digest = ApiKey.digest(told["key"])
    time.forward(days=1.9)
    assert ApiKey.objects.valid().filter(sha256=digest).exists()
    time.forward(days=0.2)
    assert not ApiKey.objects.valid().filter(sha256=digest).exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nobody"], 1),
        (["alice", "--scopes", "read,fly"], 2),
        (["alice", "--scopes", ","], 2),
        (["alice", "--expires-days", "0"], 2),
        (["alice", "--expires-days", "nan"], 2),
        (["alice", "--name", ""], 2),
    ],
)
def test_createkey_refuses_what_makes_no_key(
    alice: User, arguments: list[str], code: int
) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("createkey", *arguments)
    assert caught.value.returncode == code
    assert not ApiKey.objects.exists()


def test_a_key_of_a_plain_user_has_no_admin_scope(
    alice: User, admin: User, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("createkey", "alice", "--json")
    assert "admin" not in json.loads(capsys.readouterr().out)["scopes"]
    call_command("createkey", "admin", "--json")
    assert "admin" in json.loads(capsys.readouterr().out)["scopes"]
    with pytest.raises(CommandError, match="admin is for staff, and alice is none"):
        call_command("createkey", "alice", "--scopes", "read,admin")


def test_who_reads_the_address_while_it_is_written_finds_one(tmp_path: Path) -> None:
    """A client that found an empty one would ask nobody."""
    path, over = tmp_path / "address", threading.Event()
    write_whole(path, "http://one")
    found: set[str] = set()

    def read() -> None:
        while not over.is_set():
            found.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(500):
        write_whole(path, "http://one" if number % 2 else "http://two")
    over.set()
    reader.join(30)
    assert found <= {"http://one", "http://two"}
    assert [one.name for one in tmp_path.iterdir()] == ["address"]
