"""The NVIDIA GPUs of the machine, as NVML reports them."""

import os
from dataclasses import dataclass
from typing import Any

from launch.errors import LaunchError


@dataclass(frozen=True)
class Gpu:
    """One GPU; `index` is NVML's, which is CUDA's under `CUDA_DEVICE_ORDER=PCI_BUS_ID`."""

    index: int
    name: str
    total_bytes: int
    free_bytes: int


def visible_gpus() -> tuple[Gpu, ...]:
    """The GPUs within `CUDA_VISIBLE_DEVICES`, in its order; none without an NVIDIA driver or its library.

    Raises:
        LaunchError: `CUDA_VISIBLE_DEVICES` names a part of a GPU (MIG).
    """
    return _filter_visible(_nvml_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def used_bytes(indexes: tuple[int, ...]) -> int:
    """Memory in use now on the GPUs with these indexes, by any process."""
    gpus = {gpu.index: gpu for gpu in visible_gpus()}
    return sum(gpus[index].total_bytes - gpus[index].free_bytes for index in indexes if index in gpus)


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


def _filter_visible(gpus: list[tuple[str, Gpu]], visible_devices: str | None) -> tuple[Gpu, ...]:
    """The GPUs that `CUDA_VISIBLE_DEVICES` leaves; like CUDA, the first unknown entry ends the list."""
    if visible_devices is None or not gpus:
        return tuple(gpu for _, gpu in gpus)
    chosen: dict[int, Gpu] = {}
    for entry in visible_devices.split(","):
        device = entry.strip()
        if device.startswith("MIG-"):
            raise LaunchError(
                f"CUDA_VISIBLE_DEVICES names the MIG instance {device}, which the launcher cannot plan with; "
                "name whole GPUs."
            )
        match = _find_gpu(gpus, device)
        if match is None:
            break
        chosen[match.index] = match
    return tuple(chosen.values())


def _find_gpu(gpus: list[tuple[str, Gpu]], device: str) -> Gpu | None:
    for uuid, gpu in gpus:
        if device == str(gpu.index) or (device.startswith("GPU-") and uuid.startswith(device)):
            return gpu
    return None
