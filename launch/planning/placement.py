"""The placement rule: which server goes on which GPUs, and how much each KV pool can grow afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launch.machine.units import GIB

EQUAL_FREE_BYTES = 1 * GIB
"""GPUs whose free memory differs by less than this count as equally free."""


@dataclass(frozen=True)
class GpuRequest:
    """A server to place: what it needs on each of `tensor_parallel_size` GPUs, and the pair it belongs to."""

    name: str
    pair: str
    tensor_parallel_size: int
    bytes_per_gpu: int
    kv_bytes_per_gpu: int
    """The part of `bytes_per_gpu` that is KV pool."""


@dataclass(frozen=True)
class PlacementFailure:
    """The server that fits nowhere, and the bytes that were free for it (per GPU, most first)."""

    request: GpuRequest
    free_bytes: tuple[int, ...]


Placement = list[tuple[int, ...]]
"""GPU indexes of each server, in the order of the requests."""


def place_servers(requests: Sequence[GpuRequest], available_bytes: Mapping[int, int]) -> Placement | PlacementFailure:
    """GPUs for every server; `available_bytes` is the memory to give out, by GPU index.

    The largest server comes first, on the GPUs with most free memory; among equally free ones a pair is spread
    over different GPUs, so that prefill does not slow its own decode. Where this does not fit, the GPU with least
    free memory that still suffices is tried instead, which keeps large gaps for large servers.
    """
    roomiest = _place(requests, available_bytes, most_free_first=True)
    if not isinstance(roomiest, PlacementFailure):
        return roomiest
    packed = _place(requests, available_bytes, most_free_first=False)
    return roomiest if isinstance(packed, PlacementFailure) else packed


def _place(
    requests: Sequence[GpuRequest], available_bytes: Mapping[int, int], *, most_free_first: bool
) -> Placement | PlacementFailure:
    free = dict(available_bytes)
    gpus_of_pair: dict[str, set[int]] = {}
    placed: dict[str, tuple[int, ...]] = {}
    for request in sorted(requests, key=lambda r: r.bytes_per_gpu * r.tensor_parallel_size, reverse=True):
        fitting = [gpu for gpu in free if free[gpu] >= request.bytes_per_gpu]
        if len(fitting) < request.tensor_parallel_size:
            return PlacementFailure(request, tuple(sorted(free.values(), reverse=True)))
        used_by_pair = gpus_of_pair.setdefault(request.pair, set())
        gpus = _choose_gpus(fitting, free, used_by_pair, request.tensor_parallel_size, most_free_first=most_free_first)
        for gpu in gpus:
            free[gpu] -= request.bytes_per_gpu
        used_by_pair.update(gpus)
        placed[request.name] = gpus
    return [placed[request.name] for request in requests]


def _choose_gpus(
    fitting: list[int], free: Mapping[int, int], used_by_pair: set[int], count: int, *, most_free_first: bool
) -> tuple[int, ...]:
    chosen: list[int] = []
    for _ in range(count):
        candidates = [gpu for gpu in fitting if gpu not in chosen]
        best = (max if most_free_first else min)(free[gpu] for gpu in candidates)
        equal = [gpu for gpu in candidates if abs(free[gpu] - best) < EQUAL_FREE_BYTES]
        chosen.append(min(equal, key=lambda gpu: (gpu in used_by_pair, equal.index(gpu))))
    return tuple(sorted(chosen))


def kv_pool_growth(
    requests: Sequence[GpuRequest], placement: Placement, available_bytes: Mapping[int, int]
) -> list[float]:
    """By what factor (>= 1) each server's KV pool can grow when the memory left on its GPUs is shared out.

    Servers on one GPU grow by the same factor, so each holds the same number of full contexts. One that spans
    several GPUs grows by the smallest of their factors: its pool is the same on all of them.
    """
    factor = {}
    for gpu in available_bytes:
        on_gpu = [request for request, gpus in zip(requests, placement, strict=True) if gpu in gpus]
        left = available_bytes[gpu] - sum(request.bytes_per_gpu for request in on_gpu)
        factor[gpu] = 1 + left / sum(request.kv_bytes_per_gpu for request in on_gpu) if on_gpu else 1.0
    return [min(factor[gpu] for gpu in gpus) for gpus in placement]
