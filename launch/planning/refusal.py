"""Why servers do not fit the machine: one sentence with the arithmetic and an advice."""

from collections.abc import Mapping, Sequence

from launch.config.schema import LaunchConfig
from launch.machine.inventory import Inventory
from launch.machine.units import GIB
from launch.planning.placement import GpuRequest, PlacementFailure
from launch.planning.reserve import available_bytes, reserved_bytes


def cpu_refusal(total_bytes: Mapping[str, int], inventory: Inventory) -> str:
    """The sentence for servers, by name with the bytes of each, that need more than the host's free memory."""
    needed, free = sum(total_bytes.values()), inventory.memory_free_bytes
    each = ", ".join(f"{name} {_gib(size)}" for name, size in total_bytes.items())
    return (
        f"not enough memory for {len(total_bytes)} servers: {each}, together {_gib(needed)} GiB, but of "
        f"{_gib(inventory.memory_bytes)} GiB only {_gib(free)} GiB are free, so {_gib(needed - free)} GiB "
        "are missing; free some, use fewer or smaller models, or lower max_total_tokens."
    )


def gpu_refusal(
    config: LaunchConfig, requests: Sequence[GpuRequest], failure: PlacementFailure, inventory: Inventory
) -> str:
    """The sentence for servers that could not be placed on the GPUs."""
    available = {gpu.index: available_bytes(gpu) for gpu in inventory.gpus}
    needed = sum(request.bytes_per_gpu * request.tensor_parallel_size for request in requests)
    each = ", ".join(
        f"{request.name} {_gib(request.bytes_per_gpu)}"
        + (f" on each of {request.tensor_parallel_size} GPUs" if request.tensor_parallel_size > 1 else "")
        for request in requests
    )
    missing = needed - sum(available.values())
    failed = failure.request
    if missing > 0:
        lack = f"so {_gib(missing)} GiB are missing"
    else:
        free = failure.free_bytes[failed.tensor_parallel_size - 1]
        lack = f"so {failed.name} finds at most {_gib(free)} GiB left and lacks {_gib(failed.bytes_per_gpu - free)} GiB"
    return (
        f"{len(requests)} servers do not fit (in GiB, with a KV pool of one full context): {each}, together "
        f"{_gib(needed)}, but {', '.join(_describe_gpus(inventory))}, {lack}; "
        f"{_advice(config, requests, available)}."
    )


def _describe_gpus(inventory: Inventory) -> list[str]:
    """The available memory of each GPU; equal GPUs are listed together."""
    indexes_by_text: dict[str, list[str]] = {}
    for gpu in inventory.gpus:
        sizes = (available_bytes(gpu), gpu.free_bytes, gpu.total_bytes, reserved_bytes(gpu))
        available, free, total, reserved = map(_gib, sizes)
        text = f"{available} to give ({free} free of {total}, {reserved} kept back)"
        indexes_by_text.setdefault(text, []).append(str(gpu.index))
    return [
        f"GPU {indexes[0]} has {text}" if len(indexes) == 1 else f"GPUs {'+'.join(indexes)} have each {text}"
        for text, indexes in indexes_by_text.items()
    ]


def _advice(config: LaunchConfig, requests: Sequence[GpuRequest], available: Mapping[int, int]) -> str:
    too_large = next((r for r in requests if r.bytes_per_gpu > max(available.values())), None)
    if too_large is not None and 2 * too_large.tensor_parallel_size <= len(available):
        tp = 2 * too_large.tensor_parallel_size
        return f"spread {too_large.pair} over more GPUs (tp: {tp}) or use a smaller model"
    without_kv_pools = sum((r.bytes_per_gpu - r.kv_bytes_per_gpu) * r.tensor_parallel_size for r in requests)
    if too_large is None and without_kv_pools < sum(available.values()):
        return f"lower context_length (now {config.context_length}), use fewer or smaller models, or more GPUs"
    return "use fewer models (--hetero), smaller models or more GPUs"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"
