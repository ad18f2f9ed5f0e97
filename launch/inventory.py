"""What the machine has: GPUs with their free memory, cores, host memory.

`Inventory.from_file` reads a machine that need not exist, to see how it would be used:

    {
      "gpus": [{"index": 0, "name": "NVIDIA H200", "total_gib": 139.8, "free_gib": 139.2}],
      "cores": 16,
      "memory_gib": 128,
      "memory_free_gib": 120
    }

`index` counts up from 0, `free_gib` is `total_gib`, and `memory_free_gib` is `memory_gib` where they
are left out.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from launch.errors import ConfigError, LaunchError, first_problem

GIB = 1 << 30


@dataclass(frozen=True)
class Gpu:
    """One GPU; `index` is NVML's, which is CUDA's under `CUDA_DEVICE_ORDER=PCI_BUS_ID`."""

    index: int
    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Inventory:
    """The GPUs that may be used, the cores, and the host memory in bytes."""

    gpus: tuple[Gpu, ...]
    cores: int
    memory_bytes: int
    memory_free_bytes: int

    @property
    def device(self) -> Literal["cpu", "gpu"]:
        """Where servers run: on GPUs as soon as there is one."""
        return "gpu" if self.gpus else "cpu"

    @classmethod
    def detect(cls) -> "Inventory":
        """This machine, within `CUDA_VISIBLE_DEVICES` and the container's limits.

        Without an NVIDIA driver or without its library there are no GPUs.

        Raises:
            LaunchError: `CUDA_VISIBLE_DEVICES` names a part of a GPU (MIG).
        """
        memory = psutil.virtual_memory()
        total, free = memory.total, memory.available
        for limit, used in _cgroup_limits():
            total, free = min(total, limit), min(free, max(0, limit - used))
        return cls(
            gpus=_visible(_nvml_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")),
            cores=len(os.sched_getaffinity(0)),
            memory_bytes=total,
            memory_free_bytes=free,
        )

    @classmethod
    def from_file(cls, path: Path) -> "Inventory":
        """The machine that a JSON file describes.

        Raises:
            ConfigError: The file cannot be read, or a key in it is wrong.
        """
        try:
            return _InventoryFile.model_validate_json(path.read_bytes()).build()
        except OSError as error:
            raise ConfigError(f"the inventory {path} cannot be read: {error.strerror}.") from None
        except ValidationError as error:
            problem = "this is not JSON" if error.errors()[0]["type"] == "json_invalid" else None
            raise ConfigError(f"{path}: {problem or first_problem(error, _InventoryFile)}.") from None
        except ValueError as error:
            raise ConfigError(f"{path}: {error}.") from None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _GpuEntry(_Strict):
    index: int | None = Field(default=None, ge=0)
    name: str = "GPU"
    total_gib: float = Field(gt=0)
    free_gib: float | None = Field(default=None, ge=0)


class _InventoryFile(_Strict):
    gpus: list[_GpuEntry] = []
    cores: int = Field(default=16, ge=1)
    memory_gib: float = Field(gt=0)
    memory_free_gib: float | None = Field(default=None, ge=0)

    def build(self) -> Inventory:
        gpus = []
        for place, entry in enumerate(self.gpus):
            total, free = _bytes(entry.total_gib, entry.free_gib, f"gpus.{place}.free_gib")
            index = place if entry.index is None else entry.index
            gpus.append(Gpu(index, entry.name, total, free))
        indexes = [gpu.index for gpu in gpus]
        if len(set(indexes)) < len(indexes):
            raise ValueError("two entries of gpus have the same index; every index must be different")
        total, free = _bytes(self.memory_gib, self.memory_free_gib, "memory_free_gib")
        return Inventory(tuple(gpus), self.cores, total, free)


def _bytes(total: float, free: float | None, key: str) -> tuple[int, int]:
    if free is not None and free > total:
        raise ValueError(f"the key {key} is {free}, more than the total of {total}")
    return int(total * GIB), int((total if free is None else free) * GIB)


def _nvml_gpus() -> list[tuple[str, Gpu]]:
    """Every GPU of the machine with its UUID, in NVML's order."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no library, no driver or no permission: all mean that no GPU can be used
        return []
    try:
        return [_nvml_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _nvml_gpu(nvml: Any, index: int) -> tuple[str, Gpu]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name, uuid = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetUUID(handle)
    return str(uuid), Gpu(index, str(name), int(memory.total), int(memory.free))


def _visible(gpus: list[tuple[str, Gpu]], wanted: str | None) -> tuple[Gpu, ...]:
    """The GPUs that `CUDA_VISIBLE_DEVICES` leaves; like CUDA, the first unknown entry ends the list."""
    if wanted is None or not gpus:
        return tuple(gpu for _, gpu in gpus)
    chosen: dict[int, Gpu] = {}
    for entry in wanted.split(","):
        token = entry.strip()
        if token.startswith("MIG-"):
            raise LaunchError(
                f"CUDA_VISIBLE_DEVICES names the MIG instance {token}, which the launcher cannot plan with; "
                "name whole GPUs."
            )
        match = _find_gpu(gpus, token)
        if match is None:
            break
        chosen[match.index] = match
    return tuple(chosen.values())


def _find_gpu(gpus: list[tuple[str, Gpu]], token: str) -> Gpu | None:
    for uuid, gpu in gpus:
        if token == str(gpu.index) or (token.startswith("GPU-") and uuid.startswith(token)):
            return gpu
    return None


def _cgroup_limits(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of every control group above this process that limits its memory.

    Page cache that can be dropped does not count as used. Reads both versions of control groups.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = base / path.lstrip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(base):
                yield from _read_limit(group, *names)


def _read_limit(group: Path, limit_file: str, usage_file: str, cache_key: str) -> Iterator[tuple[int, int]]:
    try:
        limit = int((group / limit_file).read_text())
        used = int((group / usage_file).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or no limit ("max")
        return
    yield limit, used - _droppable(stat, cache_key)


def _droppable(stat: Mapping[str, str], key: str) -> int:
    return int(stat.get(key, "0"))
