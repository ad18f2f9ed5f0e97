"""The NVIDIA GPUs of the machine, as NVML reports them."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from launch.errors import LaunchError
from launch.machine.host_memory import host_memory

NOT_SUPPORTED = 3
"""NVML's code for a question that this GPU has no answer to."""


@dataclass(frozen=True)
class Gpu:
    """One GPU; `index` is NVML's, which is CUDA's under `CUDA_DEVICE_ORDER=PCI_BUS_ID`."""

    index: int
    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Gpus:
    """The GPUs that may be used, and what a user should know about how they were found, one sentence each."""

    gpus: tuple[Gpu, ...] = ()
    notes: tuple[str, ...] = ()


def visible_gpus() -> Gpus:
    """The GPUs within `CUDA_VISIBLE_DEVICES`, in its order; none without an NVIDIA driver or its library.

    A GPU that NVML cannot describe is left out, with a note. One that shares the host's memory has no figures of its
    own and gets the host's.

    Raises:
        LaunchError: `CUDA_VISIBLE_DEVICES` names a part of a GPU (MIG), or no GPU can be described.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.strip():
        return Gpus()
    found, notes = _nvml_gpus()
    gpus = _filter_visible(found, visible)
    note = _order_note([gpu for _, gpu in found], visible, os.environ.get("CUDA_DEVICE_ORDER"))
    return Gpus(gpus, tuple(notes + ([note] if note is not None else [])))


def process_bytes(indexes: Sequence[int], pids: Collection[int]) -> int | None:
    """Memory that processes hold on the GPUs with these indexes; None where NVML does not tell.

    NVML knows processes by the machine's own numbers, which a container's processes do not see, and on some machines
    it lists them without their memory.
    """
    with _nvml() as nvml:
        if nvml is None:
            return None
        try:
            found = [_bytes_by_process(nvml, nvml.nvmlDeviceGetHandleByIndex(index)) for index in indexes]
        except Exception:  # NVML's errors and its bindings'; a figure for the report is not worth a server's start
            return None
    held = [used[pid] for used in found for pid in used.keys() & pids]
    return None if not held or None in held else sum(filter(None, held))


def _bytes_by_process(nvml: Any, handle: Any) -> dict[int, int | None]:
    """Memory of each process on a GPU, also of those that use it through MPS, which are listed apart."""
    processes = list(nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    with suppress(Exception):  # where the driver knows no MPS
        processes += nvml.nvmlDeviceGetMPSComputeRunningProcesses(handle)
    return {process.pid: process.usedGpuMemory for process in processes}


@contextmanager
def _nvml() -> Iterator[Any]:
    """NVML's bindings, ready to be asked; None where no GPU can be used."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no library, no driver or no permission
        yield None
        return
    try:
        yield pynvml
    finally:
        with suppress(Exception):
            pynvml.nvmlShutdown()


def _nvml_gpus() -> tuple[list[tuple[str, Gpu]], list[str]]:
    """Every GPU of the machine with its UUID, in NVML's order, and notes on those left out."""
    with _nvml() as nvml:
        return ([], []) if nvml is None else _describe_all(nvml)


def _describe_all(nvml: Any) -> tuple[list[tuple[str, Gpu]], list[str]]:
    try:
        count = nvml.nvmlDeviceGetCount()
    except Exception as error:  # NVML's own errors, and those of bindings that do not know its version
        raise LaunchError(
            f"NVML does not tell how many GPUs there are ({error}); see whether nvidia-smi works, or set "
            "CUDA_VISIBLE_DEVICES to nothing to run without GPUs."
        ) from None
    found, notes = [], []
    for index in range(count):
        try:
            found.append(_describe(nvml, index))
        except Exception as error:  # one GPU's fault leaves the others usable
            notes.append(f"GPU {index} is left out: NVML does not describe it ({error}).")
    if notes and not found:
        raise LaunchError(
            f"NVML describes none of the {count} GPUs: {notes[0].rstrip('.')}; see whether nvidia-smi works, or set "
            "CUDA_VISIBLE_DEVICES to nothing to run without GPUs."
        )
    return found, notes


def _describe(nvml: Any, index: int) -> tuple[str, Gpu]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        total, free = int(memory.total), int(memory.free)
    except Exception as error:
        if not _is_unsupported(error):
            raise
        total, free = host_memory()
    name = _text_or(nvml.nvmlDeviceGetName, handle, "GPU")
    uuid = _text_or(nvml.nvmlDeviceGetUUID, handle, "")
    return uuid, Gpu(index, name, total, free)


def _text_or(ask: Callable[[Any], str | bytes], handle: Any, default: str) -> str:
    """A text of NVML, which older bindings give as bytes; `default` where the GPU has none."""
    try:
        text = ask(handle)
    except Exception as error:
        if not _is_unsupported(error):
            raise
        return default
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


def _is_unsupported(error: Exception) -> bool:
    return getattr(error, "value", None) == NOT_SUPPORTED or "not supported" in str(error).lower()


def _order_note(gpus: list[Gpu], visible_devices: str | None, device_order: str | None) -> str | None:
    """What to know where `CUDA_VISIBLE_DEVICES` counts GPUs in an order that NVML does not know."""
    numbered = visible_devices is not None and any(entry.strip().isdigit() for entry in visible_devices.split(","))
    if not numbered or len(gpus) < 2 or device_order == "PCI_BUS_ID":
        return None
    # CUDA's own order is the fastest first, and among equals that of the bus.
    if device_order is None and len({gpu.name for gpu in gpus}) == 1:
        return None
    order = "not set" if device_order is None else device_order
    return (
        f"CUDA_VISIBLE_DEVICES={visible_devices} is read in the order of the PCI bus, as nvidia-smi lists the GPUs; "
        f"CUDA_DEVICE_ORDER is {order}, so CUDA's own numbers may mean other ones. Name the GPUs by UUID "
        "(nvidia-smi -L), or set CUDA_DEVICE_ORDER=PCI_BUS_ID."
    )


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
