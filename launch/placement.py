"""Which server goes on which GPUs, and how the rest of each GPU becomes KV cache."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launch.inventory import GIB

# GPUs whose unassigned memory differs by less than this count as equally roomy.
EQUAL = 1 * GIB


@dataclass(frozen=True)
class Demand:
    """A server to place: what it needs on each of `tp` GPUs, and the pair it belongs to."""

    name: str
    pair: str
    tp: int
    total_bytes: int
    kv_bytes: int
    """The part of `total_bytes` that is KV pool."""


@dataclass(frozen=True)
class Unplaced:
    """The server that found no place, and what was left for it (per GPU, roomiest first)."""

    demand: Demand
    left: tuple[int, ...]


def place(demands: Sequence[Demand], room: Mapping[int, int]) -> list[tuple[int, ...]] | Unplaced:
    """GPUs for every demand, in the order of `demands`; `room` is the memory to give out per GPU.

    The largest server comes first, on the roomiest GPUs; among equally roomy ones a pair is spread
    over different GPUs, so that prefill does not slow its own decode. Where this does not fit, the
    tightest GPU that still has room is tried instead, which keeps large gaps for large servers.
    """
    spread = _place(demands, room, roomiest=True)
    if not isinstance(spread, Unplaced):
        return spread
    packed = _place(demands, room, roomiest=False)
    return spread if isinstance(packed, Unplaced) else packed


def _place(demands: Sequence[Demand], room: Mapping[int, int], *, roomiest: bool) -> list[tuple[int, ...]] | Unplaced:
    left = dict(room)
    used_by: dict[str, set[int]] = {}
    placed: dict[str, tuple[int, ...]] = {}
    for demand in sorted(demands, key=lambda d: d.total_bytes * d.tp, reverse=True):
        fitting = [gpu for gpu in left if left[gpu] >= demand.total_bytes]
        if len(fitting) < demand.tp:
            return Unplaced(demand, tuple(sorted(left.values(), reverse=True)))
        partner = used_by.setdefault(demand.pair, set())
        gpus = _choose(fitting, left, partner, demand.tp, roomiest=roomiest)
        for gpu in gpus:
            left[gpu] -= demand.total_bytes
        partner.update(gpus)
        placed[demand.name] = gpus
    return [placed[demand.name] for demand in demands]


def _choose(
    fitting: list[int], left: Mapping[int, int], partner: set[int], tp: int, *, roomiest: bool
) -> tuple[int, ...]:
    chosen: list[int] = []
    for _ in range(tp):
        rest = [gpu for gpu in fitting if gpu not in chosen]
        best = max(left[gpu] for gpu in rest) if roomiest else min(left[gpu] for gpu in rest)
        equal = [gpu for gpu in rest if abs(left[gpu] - best) < EQUAL]
        chosen.append(min(equal, key=lambda gpu: (gpu in partner, equal.index(gpu))))
    return tuple(sorted(chosen))


def kv_growth(demands: Sequence[Demand], places: Sequence[tuple[int, ...]], room: Mapping[int, int]) -> list[float]:
    """By what factor (>= 1) each server's KV pool can grow when the rest of its GPUs is shared out.

    Servers on one GPU grow by the same factor, so each holds the same number of full contexts. One
    that spans several GPUs grows by the least of theirs: its pool is the same on all of them.
    """
    factor = {}
    for gpu in room:
        here = [demand for demand, gpus in zip(demands, places, strict=True) if gpu in gpus]
        rest = room[gpu] - sum(demand.total_bytes for demand in here)
        factor[gpu] = 1 + rest / sum(demand.kv_bytes for demand in here) if here else 1.0
    return [min(factor[gpu] for gpu in gpus) for gpus in places]
