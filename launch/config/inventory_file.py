"""Reads the inventory of a machine that need not exist from a JSON file, to see how it would be used.

    {
      "gpus": [{"index": 0, "name": "NVIDIA H200", "total_gib": 139.8, "free_gib": 139.2}],
      "cores": 16,
      "memory_gib": 128,
      "memory_free_gib": 120
    }

Left out, `index` counts up from 0, `free_gib` is `total_gib`, and `memory_free_gib` is `memory_gib`.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from launch.config.validation import first_problem
from launch.errors import ConfigError
from launch.machine.gpus import Gpu
from launch.machine.inventory import Inventory
from launch.machine.units import GIB


def read_inventory(path: Path) -> Inventory:
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
        for position, entry in enumerate(self.gpus):
            total, free = _bytes(entry.total_gib, entry.free_gib, f"gpus.{position}.free_gib")
            index = position if entry.index is None else entry.index
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
