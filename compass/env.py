"""All settings of the environment, typed, with every error reported at once."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from environs import Env, EnvValidationError, validate

from compass import rates
from registry import cores

PREFIX = "COMPASS_"
UNPREFIXED = ("MAX_CONCURRENT_UPLOADS", "MODEL_CACHE_SIZE", "REGISTRY_URL")
# Not settings: the stack tells its children, the tests choose their database.
INTERNAL = (
    "COMPASS_STACK",
    "COMPASS_READY_FD",
    "COMPASS_KEY",
    "COMPASS_URL",
    "COMPASS_CRASHPOINT",
    "COMPASS_CRASHPOINT_ONCE",
)
SOCKETS = Path("/tmp")  # noqa: S108  # of brokers whose data lies too deep
SOCKET_PATH_LIMIT = 100  # bytes; the kernel's limit is 108 with the end mark
REDIS = ("redis://", "rediss://", "redis+socket://")
MOST_CPUS = 8192  # that Linux counts on one machine
MOST_MEMORY = 64 * 1024**4  # bytes
BROKERS = (*REDIS, "sentinel://", "amqp://", "amqps://", "memory://")


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class BadEnvironment(Exception):
    """One sentence a wrong setting, all of them at once."""


@dataclass(frozen=True)
class Environment:
    """What the environment says; docs/settings.md explains each name."""

    data_dir: Path
    secret_key: str
    debug: bool
    allowed_hosts: list[str]
    database: dict[str, Any]
    broker_url: str
    result_url: str
    embedded_broker: bool
    host: str
    port: int
    node_name: str
    cpus: int
    memory: int
    fake_gpus: str
    pin_cpus: bool
    web_threads: int
    inference_threads: int
    inference_workers: int
    batch_processes: int
    upload_limit: int
    model_limit: int
    max_concurrent_uploads: int
    upload_expiry_hours: int
    model_cache_size: int
    model_ttl: int
    preload_models: list[str]
    predict_timeout: int
    log_limit: int
    script_disk_limit: int
    line_host: str
    line_port: int
    log_level: str
    throttles: list[rates.Rule]
    metrics_allow: list[Network]


def read() -> Environment:
    """Read and check the environment. Raises BadEnvironment with one line an error."""
    env = Env(eager=False, prefix=PREFIX)
    plain = Env(eager=False)
    data_dir = Path(env.str("DATA_DIR", "") or "~/.compass").expanduser().absolute()
    hosts = env.list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
    positive = validate.Range(min=1)
    broker_url = env.str("BROKER_URL", "")
    sqlite = f"sqlite:///{quote(str(data_dir / 'compass.sqlite3'))}"
    values: dict[str, Any] = {
        "debug": env.bool("DEBUG", False),
        "allowed_hosts": hosts,
        "host": env.str("HOST", "127.0.0.1", validate=validate.Length(min=1)),
        "port": env.int("PORT", 8000, validate=validate.Range(min=1, max=65535)),
        "node_name": env.str(
            "NODE_NAME",
            _host_name(),
            validate=validate.Regexp(r"[A-Za-z0-9_.-]{1,80}\Z"),
        ),
        "cpus": env.int("CPUS", _cpus(), validate=validate.Range(min=1, max=MOST_CPUS)),
        "memory": env.int(
            "MEMORY", _memory(), validate=validate.Range(min=1, max=MOST_MEMORY)
        ),
        "fake_gpus": env.str("FAKE_GPUS", ""),
        "pin_cpus": env.bool("PIN_CPUS", True),
        "web_threads": env.int("WEB_THREADS", 16, validate=positive),
        "inference_threads": env.int("INFERENCE_THREADS", 4, validate=positive),
        "inference_workers": env.int(
            "INFERENCE_WORKERS", 1, validate=validate.Range(min=1, max=256)
        ),
        "batch_processes": env.int("BATCH_PROCESSES", _cpus(), validate=positive),
        "model_limit": env.int("MODEL_LIMIT", 4 * 1024**3, validate=positive),
        "upload_limit": env.int("UPLOAD_LIMIT", 10 * 1024**3, validate=positive),
        "upload_expiry_hours": env.int("UPLOAD_EXPIRY_HOURS", 24, validate=positive),
        "max_concurrent_uploads": plain.int(
            "MAX_CONCURRENT_UPLOADS", 2, validate=positive
        ),
        "model_cache_size": plain.int("MODEL_CACHE_SIZE", 8, validate=positive),
        "model_ttl": env.int("MODEL_TTL", 0, validate=validate.Range(min=0)),
        "preload_models": env.list("PRELOAD_MODELS", []),
        "predict_timeout": env.int("PREDICT_TIMEOUT", 30, validate=positive),
        "log_limit": env.int("LOG_LIMIT", 64 * 1024**2, validate=positive),
        "script_disk_limit": env.int(
            "SCRIPT_DISK_LIMIT", 10 * 1024**3, validate=positive
        ),
        "line_host": env.str("LINE_HOST", ""),
        "line_port": env.int("LINE_PORT", 0, validate=validate.Range(min=0, max=65535)),
        "log_level": env.str(
            "LOG_LEVEL",
            "INFO",
            validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR"]),
        ),
        "throttles": env.list("THROTTLES", []),
        "metrics_allow": env.list("METRICS_ALLOW", ["127.0.0.0/8", "::1/128"]),
        "database": env.dj_db_url("DATABASE_URL", sqlite),
        "embedded_broker": not broker_url,
        "broker_url": broker_url or embedded_url(data_dir, 0),
        "result_url": env.str("RESULT_URL", "")
        or (broker_url if broker_url else embedded_url(data_dir, 1)),
        "secret_key": env.str("SECRET_KEY", ""),
    }
    errors = [*_errors(env), *_errors(plain), *_broker_errors(values)]
    for name, parse in (("throttles", rates.read), ("metrics_allow", _networks)):
        try:
            values[name] = parse(values[name])
        except ValueError as error:
            errors.append(f"COMPASS_{name.upper()}: {error}")
    if not errors and not values["secret_key"]:
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            values["secret_key"] = _kept_secret(data_dir) or new_secret()
        except OSError as error:
            reason = error.strerror or str(error)
            errors.append(f"COMPASS_DATA_DIR: {data_dir} cannot be used: {reason}.")
    if errors:
        raise BadEnvironment("\n".join(errors))
    return Environment(data_dir=data_dir, **values)


def unknown_names() -> list[str]:
    """The COMPASS_ names in the environment that no setting has: most are misspelt."""
    known = {f"{PREFIX}{name.upper()}" for name in Environment.__annotations__}
    known |= {"COMPASS_DATABASE_URL", *INTERNAL}
    known -= {"COMPASS_DATABASE", "COMPASS_EMBEDDED_BROKER"}
    known -= {f"{PREFIX}{name}" for name in UNPREFIXED}
    return sorted(
        name
        for name in os.environ
        if name.startswith(PREFIX) and name not in known and "_TEST_" not in name
    )


def socket_path(data_dir: Path) -> Path:
    """Where the embedded broker listens; beside the data unless that path is too long."""
    path = data_dir / "broker" / "valkey.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    short = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return SOCKETS / f"compass-{os.getuid()}-{short}" / "valkey.sock"


def embedded_url(data_dir: Path, database: int) -> str:
    path = quote(str(socket_path(data_dir)))
    return f"redis+socket://{path}?virtual_host={database}"


def _errors(env: Env) -> list[str]:
    try:
        env.seal()
    except EnvValidationError as error:
        found = error.error_messages
        assert isinstance(found, Mapping)
        return [f"{name}: {' '.join(texts)}" for name, texts in found.items()]
    return []


def _broker_errors(values: dict[str, Any]) -> list[str]:
    errors = []
    if not values["broker_url"].startswith(BROKERS):
        known = ", ".join(BROKERS)
        errors.append(f"COMPASS_BROKER_URL: It must begin with one of {known}.")
    return errors


def _networks(texts: list[str]) -> list[Network]:
    return [ipaddress.ip_network(text.strip()) for text in texts]


def keep_secret(data_dir: Path, secret: str) -> str:
    """Keep the installation's secret for its owner alone; the one kept before, if any."""
    path = data_dir / "secret"
    if not path.exists():
        # Written aside and linked, so that two starts at once agree on one secret.
        aside = data_dir / f".secret-{secrets.token_hex(8)}"
        descriptor = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secret)
            os.link(aside, path)
        except FileExistsError:
            pass
        finally:
            aside.unlink()
    return _kept_secret(data_dir) or secret


def new_secret() -> str:
    return secrets.token_urlsafe(48)


def _kept_secret(data_dir: Path) -> str:
    """The installation's secret; nothing before its first start."""
    try:
        return (data_dir / "secret").read_text().strip()
    except FileNotFoundError:
        return ""


def _host_name() -> str:
    """This host's name in the letters that a queue's name may have."""
    name = socket.gethostname()
    return (
        "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in name)
        or "localhost"
    )


def _cpus() -> int:
    """The CPUs that this process may use."""
    return cores.count()


def _memory() -> int:
    """Bytes of memory, or of the control group's share if that is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdigit() else physical
