"""Hosts of their own: network namespaces, each with an address, a worker, and a cable to pull."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.chaos.proxy import Proxy
from tests.chaos.services import NotHere, Redis
from tests.chaos.stack import CELERY, ROOT, Stack


class Host:
    """One namespace on a cable to this machine, where both services can be reached."""

    def __init__(self, stack: Stack, name: str, number: int) -> None:
        self.name, self._stack = name, stack
        tag = secrets.token_hex(3)
        self._space, self._cable = f"compass-{tag}", f"cmp{tag}"
        net = f"10.{213 + number}.{os.getpid() % 250}"
        self._inside, self._here = f"{net}.2", f"{net}.1"
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Lay the cable and start the worker. Raises NotHere."""
        end = f"{self._cable}i"
        _ip("netns", "add", self._space)
        kind = ("type", "veth", "peer", "name", end)
        _ip("link", "add", self._cable, *kind)
        _ip("link", "set", end, "netns", self._space)
        _ip("addr", "add", f"{self._here}/24", "dev", self._cable)
        _ip("link", "set", self._cable, "up")
        inside = ("-n", self._space)
        _ip(*inside, "addr", "add", f"{self._inside}/24", "dev", end)
        for device in (end, "lo"):
            _ip(*inside, "link", "set", device, "up")
        services = self._stack.services
        assert isinstance(services, Redis)
        address = (self._here, 0)
        redis = Proxy((services.server.host, services.server.port), address)
        database = Proxy(
            (services.database.proxy.host, services.database.proxy.port), address
        )
        self._proxies = [redis, database]
        url = urlsplit(services.database.url)
        environment = {
            **self._stack.environment,
            "COMPASS_BROKER_URL": f"redis://{self._here}:{redis.port}/0",
            "COMPASS_RESULT_URL": f"redis://{self._here}:{redis.port}/1",
            "COMPASS_DATABASE_URL": (
                f"postgresql://{url.username}:{url.password or ''}"
                f"@{self._here}:{database.port}{url.path}"
            ),
            "COMPASS_NODE_NAME": self.name,
            "COMPASS_CPUS": "2",
        }
        command = ["ip", "netns", "exec", self._space, *CELERY, "worker"]
        command += ["-n", f"cpu@{self.name}", "-Q", f"cpu.{self.name}"]
        command += ["--pool", "threads", "-c", "4", "-l", "INFO"]
        command += ["--without-mingle", "--without-gossip"]
        with (self._stack.home / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def pull(self) -> None:
        """Pull the cable: nothing comes, and nothing says so."""
        _ip("link", "set", self._cable, "down")

    def plug(self) -> None:
        _ip("link", "set", self._cable, "up")

    def close(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
            for proxy in self._proxies:
                proxy.close()
        with contextlib.suppress(NotHere):
            _ip("link", "del", self._cable)
        with contextlib.suppress(NotHere):
            _ip("netns", "del", self._space)


@contextlib.contextmanager
def standing(stack: Stack, *names: str) -> Iterator[dict[str, Host]]:
    """Hosts of these names, with their workers up. Raises NotHere."""
    hosts = {name: Host(stack, name, number) for number, name in enumerate(names)}
    try:
        for host in hosts.values():
            host.begin()
        wanted = {f"cpu@{name}" for name in names}
        stack.until(
            lambda: wanted <= set(stack.nodes_up("cpu")), "the hosts are up", 60
        )
        yield hosts
    finally:
        for host in hosts.values():
            host.close()


def reason_why_not() -> str:
    """What this machine lacks for hosts of their own; nothing if it lacks nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    name = f"compass-{secrets.token_hex(3)}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except NotHere as error:
        return str(error)
    return ""


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=10)
    if done.returncode:
        raise NotHere(f"ip {' '.join(words)}: {done.stderr.strip()}")
