"""The inventory of a machine: its GPUs with their free memory, CPU cores and host memory."""

import os
from dataclasses import dataclass
from typing import Literal

from launch.machine.gpus import Gpu, visible_gpus
from launch.machine.host_memory import host_memory

Device = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class Inventory:
    """The GPUs that may be used, the cores, and the host memory in bytes."""

    gpus: tuple[Gpu, ...]
    cores: int
    memory_bytes: int
    memory_free_bytes: int
    notes: tuple[str, ...] = ()
    """What a user should know about how the GPUs were found, one sentence each."""

    @property
    def device(self) -> Device:
        """Where servers run: on GPUs as soon as there is one."""
        return "gpu" if self.gpus else "cpu"

    @classmethod
    def detect(cls) -> "Inventory":
        """This machine, within `CUDA_VISIBLE_DEVICES` and the container's limits.

        Raises:
            LaunchError: `CUDA_VISIBLE_DEVICES` names a part of a GPU (MIG), or NVML describes none of the GPUs.
        """
        total, free = host_memory()
        found = visible_gpus()
        return cls(
            gpus=found.gpus,
            cores=len(os.sched_getaffinity(0)),
            memory_bytes=total,
            memory_free_bytes=free,
            notes=found.notes,
        )
