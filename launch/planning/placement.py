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
    decode_bytes_per_gpu: int = 0
    """The weights that a decode step reads, all of them at most; 0 for a server that does not decode."""


@dataclass(frozen=True)
class PlacementFailure:
    """The server that fits nowhere, and the bytes that were free for it (per GPU, most first)."""

    request: GpuRequest
    free_bytes: tuple[int, ...]


Placement = list[tuple[int, ...]]
"""GPU indexes of each server, in the order of the requests."""


def place_servers(requests: Sequence[GpuRequest], available_bytes: Mapping[int, int]) -> Placement | PlacementFailure:
    """GPUs for every server; `available_bytes` is the memory to give out, by GPU index.

    Decode is most of a run's time, and two decode servers on one GPU slow each other down. So decode servers come
    first, the one that reads most before the others, each on the GPU on which decode reads least. Prefill servers
    follow, the largest first, on the GPU with most free memory, among equally free ones another one than the partner's.
    Where this does not fit, all servers are placed by free memory alone, the largest first; and where that fails too,
    on the GPU with least that still suffices, which keeps large gaps for large servers.
    """
    rules = (_Rule(decode_apart=True), _Rule(), _Rule(most_free_first=False))
    tried = [_place(requests, available_bytes, rules[0])]
    for rule in rules[1:]:
        if isinstance(tried[-1], PlacementFailure):
            tried.append(_place(requests, available_bytes, rule))
    return tried[1] if isinstance(tried[-1], PlacementFailure) else tried[-1]


@dataclass(frozen=True)
class _Rule:
    """In which order servers are placed, and on which of the GPUs that have room."""

    decode_apart: bool = False
    most_free_first: bool = True

    def order(self, request: GpuRequest) -> tuple[int, int]:
        """The first has the highest."""
        decode = request.decode_bytes_per_gpu * request.tensor_parallel_size if self.decode_apart else 0
        return decode, request.bytes_per_gpu * request.tensor_parallel_size


def _place(
    requests: Sequence[GpuRequest], available_bytes: Mapping[int, int], rule: _Rule
) -> Placement | PlacementFailure:
    free = dict(available_bytes)
    decode_bytes = dict.fromkeys(free, 0)
    gpus_of_pair: dict[str, set[int]] = {}
    placed: dict[str, tuple[int, ...]] = {}
    for request in sorted(requests, key=rule.order, reverse=True):
        fitting = [gpu for gpu in free if free[gpu] >= request.bytes_per_gpu]
        if len(fitting) < request.tensor_parallel_size:
            return PlacementFailure(request, tuple(sorted(free.values(), reverse=True)))
        used_by_pair = gpus_of_pair.setdefault(request.pair, set())
        apart = rule.decode_apart and request.decode_bytes_per_gpu > 0
        busy = decode_bytes if apart else dict.fromkeys(free, 0)
        chosen: list[int] = []
        for _ in range(request.tensor_parallel_size):
            left = [gpu for gpu in fitting if gpu not in chosen]
            chosen.append(_best_gpu(left, busy, free, used_by_pair, most_free_first=rule.most_free_first))
        for gpu in chosen:
            free[gpu] -= request.bytes_per_gpu
            decode_bytes[gpu] += request.decode_bytes_per_gpu
        used_by_pair.update(chosen)
        placed[request.name] = tuple(sorted(chosen))
    return [placed[request.name] for request in requests]


def _best_gpu(
    gpus: Sequence[int],
    busy: Mapping[int, int],
    free: Mapping[int, int],
    used_by_pair: set[int],
    *,
    most_free_first: bool,
) -> int:
    least = min(busy[gpu] for gpu in gpus)
    idlest = [gpu for gpu in gpus if busy[gpu] == least]
    best = (max if most_free_first else min)(free[gpu] for gpu in idlest)
    equal = [gpu for gpu in idlest if abs(free[gpu] - best) < EQUAL_FREE_BYTES]
    return min(equal, key=lambda gpu: (gpu in used_by_pair, equal.index(gpu)))


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
