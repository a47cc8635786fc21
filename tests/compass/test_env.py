from __future__ import annotations

from pathlib import Path

import pytest
from kombu.utils.url import url_to_parts

from compass import env


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what the test sets."""
    import os

    for name in list(os.environ):
        if name.startswith("COMPASS_") or name in env.UNPREFIXED:
            monkeypatch.delenv(name)
    monkeypatch.setenv("COMPASS_DATA_DIR", str(tmp_path / "data"))


def test_without_settings_there_is_a_sound_environment(tmp_path: Path) -> None:
    environment = env.read()
    assert environment.data_dir == tmp_path / "data"
    assert environment.host == "127.0.0.1"
    assert environment.port == 8000
    assert environment.embedded_broker
    assert environment.database["NAME"] == str(tmp_path / "data" / "compass.sqlite3")
    assert environment.cpus >= 1


def test_every_wrong_setting_is_reported_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = {
        "COMPASS_PORT": "70000",
        "COMPASS_CPUS": "many",
        "COMPASS_DEBUG": "perhaps",
        "COMPASS_LOG_LEVEL": "LOUD",
        "COMPASS_NODE_NAME": "a b",
        "COMPASS_DATABASE_URL": "nonsense",
        "COMPASS_BROKER_URL": "nowhere",
        "MAX_CONCURRENT_UPLOADS": "0",
        "COMPASS_THROTTLES": "read=often",
        "COMPASS_METRICS_ALLOW": "10.0.0.1/8",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(env.BadEnvironment) as caught:
        env.read()
    lines = str(caught.value).splitlines()
    assert {line.partition(":")[0] for line in lines} == set(wrong)
    assert all(line.partition(":")[2].strip() for line in lines)


@pytest.mark.parametrize(
    ("name", "most"), [("CPUS", env.MOST_CPUS), ("MEMORY", env.MOST_MEMORY)]
)
def test_what_no_machine_has_is_refused(
    name: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"COMPASS_{name}", str(most))
    assert getattr(env.read(), name.lower()) == most
    for wrong in (most + 1, 0):
        monkeypatch.setenv(f"COMPASS_{name}", str(wrong))
        with pytest.raises(env.BadEnvironment, match=rf"COMPASS_{name}: .*{most}"):
            env.read()


def test_throttles_and_networks_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert env.read().throttles == []
    assert [str(one) for one in env.read().metrics_allow] == ["127.0.0.0/8", "::1/128"]
    monkeypatch.setenv("COMPASS_THROTTLES", "read=100/s, /api/v1/scripts=20/h")
    monkeypatch.setenv("COMPASS_METRICS_ALLOW", "10.0.0.0/8")
    found = env.read()
    assert [(one.name, one.number, one.gap) for one in found.throttles] == [
        ("/api/v1/scripts", 20, 180.0), ("read", 100, 0.01),
    ]  # fmt: skip
    assert [str(one) for one in found.metrics_allow] == ["10.0.0.0/8"]


def test_a_name_of_a_node_fits_the_columns_that_it_goes_into(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COMPASS_NODE_NAME", "a" * 80)
    assert env.read().node_name == "a" * 80
    monkeypatch.setenv("COMPASS_NODE_NAME", "a" * 81)
    with pytest.raises(env.BadEnvironment, match="COMPASS_NODE_NAME"):
        env.read()


def test_a_data_directory_that_cannot_be_made_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COMPASS_DATA_DIR", str(tmp_path / "file" / "data"))
    with pytest.raises(env.BadEnvironment, match="COMPASS_DATA_DIR"):
        env.read()


def test_the_secret_is_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    first = env.read().secret_key
    assert list((tmp_path / "data").iterdir()) == []  # reading keeps nothing
    assert env.keep_secret(tmp_path / "data", first) == first
    assert env.keep_secret(tmp_path / "data", "another") == first
    assert env.read().secret_key == first
    assert len(first) >= 50
    assert [one.name for one in (tmp_path / "data").iterdir()] == ["secret"]
    assert (tmp_path / "data" / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_results_go_to_an_external_redis_unless_said_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COMPASS_BROKER_URL", "redis://elsewhere:6379/3")
    environment = env.read()
    assert not environment.embedded_broker
    assert environment.result_url == "redis://elsewhere:6379/3"


def test_rabbitmq_needs_no_redis_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPASS_BROKER_URL", "amqp://elsewhere//")
    assert env.read().broker_url == "amqp://elsewhere//"
    monkeypatch.setenv("COMPASS_RESULT_URL", "redis://elsewhere:6379/0")
    assert env.read().result_url == "redis://elsewhere:6379/0"


@pytest.mark.parametrize("name", ["plain", "with space", "per%20cent", "mark#?&="])
def test_odd_letters_in_the_directory_survive_in_the_addresses(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = Path("/tmp") / name  # noqa: S108
    url = env.embedded_url(data_dir, 1)
    parts = url_to_parts(url)
    assert "/" + (parts.path or "") == str(env.socket_path(data_dir))
    assert parts.query == {"virtual_host": "1"}


def test_a_long_directory_gets_a_socket_elsewhere(tmp_path: Path) -> None:
    long = tmp_path / ("d" * 100)
    path = env.socket_path(long)
    assert len(str(path)) <= env.SOCKET_PATH_LIMIT
    assert path != env.socket_path(tmp_path / ("e" * 100))
    assert env.socket_path(Path("/data")) == Path("/data/broker/valkey.sock")


def test_misspelt_names_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPASS_PROT", "8000")
    monkeypatch.setenv("COMPASS_TEST_DATABASE", "postgresql")
    monkeypatch.setenv("COMPASS_DATABASE_URL", "sqlite:///x")
    monkeypatch.setenv("COMPASS_STACK", "1")
    assert env.unknown_names() == ["COMPASS_PROT"]
