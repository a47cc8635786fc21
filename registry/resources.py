"""What a task asks for and a node offers."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1024**3
GPU_WEIGHT = 16  # CPUs that a GPU counts for


@dataclass(frozen=True)
class Resources:
    """CPUs and GPUs as whole devices, memory in bytes.

    `gpu_memory` is what each of the GPUs must have at least; it is not shared out.
    """

    cpus: int = 1
    gpus: int = 0
    memory: int = 0
    gpu_memory: int = 0

    def fits(self, free: Resources) -> bool:
        """Whether this much can be taken from `free`."""
        return (
            self.cpus <= free.cpus
            and self.gpus <= free.gpus
            and self.memory <= free.memory
        )

    def minus(self, taken: Resources) -> Resources:
        """What is left after `taken` is gone; negative where it was more."""
        return Resources(
            self.cpus - taken.cpus, self.gpus - taken.gpus, self.memory - taken.memory
        )

    @property
    def weight(self) -> int:
        """CPUs that holding it counts for in its owner's share."""
        return self.cpus + GPU_WEIGHT * self.gpus

    def as_dict(self) -> dict[str, int]:
        return {
            "cpus": self.cpus,
            "gpus": self.gpus,
            "memory": self.memory,
            "gpu_memory": self.gpu_memory,
        }
