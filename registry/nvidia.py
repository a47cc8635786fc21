"""NVIDIA's GPUs: by the driver's library, or by its command where only that is there."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from registry.devices import Gpu, User

COMMAND = "nvidia-smi"
PATIENCE = 10  # seconds for the command to answer
MIB = 1024**2
GPU_FIELDS = ("index", "name", "uuid", "memory.total", "memory.free")
PROCESS_FIELDS = ("gpu_uuid", "pid", "used_memory")


class Library:
    """The driver's own library, as the package nvidia-ml-py calls it."""

    @staticmethod
    def is_there() -> bool:
        try:
            import pynvml

            pynvml.nvmlInit()
            pynvml.nvmlShutdown()
        except Exception:  # the library raises errors of its own where no driver is
            return False
        return True

    def gpus(self) -> list[Gpu]:
        import pynvml

        try:
            pynvml.nvmlInit()
            try:
                count = pynvml.nvmlDeviceGetCount()
                return [self._gpu(pynvml, index) for index in range(count)]
            finally:
                pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            raise OSError(f"NVIDIA's library says: {error}") from error

    def _gpu(self, nvml: Any, index: int) -> Gpu:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        # Those that compute; what only draws, as a desktop does, leaves room for a job.
        running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        return {
            "index": index,
            "name": _text(nvml.nvmlDeviceGetName(handle)),
            "uuid": _text(nvml.nvmlDeviceGetUUID(handle)),
            "memory": int(memory.total),
            "free": int(memory.free),
            "processes": [user(one.pid, one.usedGpuMemory or 0) for one in running],
        }


class Command:
    """The command that comes with the driver."""

    @staticmethod
    def is_there() -> bool:
        return shutil.which(COMMAND) is not None

    def gpus(self) -> list[Gpu]:
        users: dict[str, list[User]] = {}
        for uuid, pid, used in self._ask("compute-apps", PROCESS_FIELDS):
            users.setdefault(uuid, []).append(user(int(pid), _mib(used)))
        return [
            {
                "index": int(index),
                "name": name,
                "uuid": uuid,
                "memory": _mib(total),
                "free": _mib(free),
                "processes": users.get(uuid, []),
            }
            for index, name, uuid, total, free in self._ask("gpu", GPU_FIELDS)
        ]

    def _ask(self, what: str, fields: tuple[str, ...]) -> list[list[str]]:
        command = [COMMAND, f"--query-{what}={','.join(fields)}"]
        command += ["--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(  # noqa: S603
                command, capture_output=True, text=True, timeout=PATIENCE, check=True
            )
        except subprocess.SubprocessError as error:
            raise OSError(f"{COMMAND} did not answer: {error}") from error
        lines = [line.split(", ") for line in done.stdout.splitlines() if line.strip()]
        number = fields.index("pid" if "pid" in fields else "index")
        if any(
            len(line) != len(fields) or not line[number].isdigit() for line in lines
        ):
            raise OSError(f"{COMMAND} answered in another form: {done.stdout[:200]!r}")
        return lines


def user(pid: int, memory: int) -> User:
    """The process with whose it is and what it is called, as far as can be seen."""
    name = owner = ""
    try:
        process = psutil.Process(pid)
        name, owner = process.name(), process.username()
    except (psutil.Error, KeyError):  # of another container, or just gone
        pass
    return {"pid": pid, "user": owner, "name": name, "memory": memory}


def _mib(text: str) -> int:
    """Bytes from whole MiB; what the driver does not tell is none."""
    return int(text) * MIB if text.isdigit() else 0


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
