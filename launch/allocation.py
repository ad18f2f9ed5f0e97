"""How the machine's memory is shared out: GPUs, KV pool and memory fraction of every server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launch.config import LaunchConfig, ModelConfig
from launch.errors import PlanError
from launch.inventory import GIB, Gpu, Inventory
from launch.memory import Need, Role, mem_fraction
from launch.placement import Demand, Unplaced, kv_growth, place

KEPT_BACK = 0.02
"""Share of each GPU's memory that no server gets: fragmentation, and the error of the estimates."""
WANTED_CONTEXTS = (2, 1)
"""Full contexts that each KV pool must hold: two, or only one where two do not fit."""
KV_STEP = 64
CPU_FRACTION = 0.3
# SGLang refuses a tensor-parallel server when one of its GPUs has less than 0.9 of another's free
# memory. The plan counts with the least of them, so that check is switched off where it may strike.
TP_BALANCE = 0.95


@dataclass(frozen=True)
class Slot:
    """A server before it has a place."""

    model: ModelConfig
    role: Role
    need: Need

    @property
    def name(self) -> str:
        """The server's name."""
        return f"{self.model.name}-{self.role}"


@dataclass(frozen=True)
class Share:
    """A server's share of the machine."""

    gpus: tuple[int, ...]
    kv_tokens: int
    fraction: float
    balanced: bool = True


def kept_back(gpu: Gpu) -> int:
    """Bytes of a GPU that the plan gives to nobody."""
    return int(gpu.total_bytes * KEPT_BACK)


def share_host(config: LaunchConfig, slots: Sequence[Slot], inventory: Inventory) -> tuple[list[Share], list[str]]:
    """Shares of host memory, for servers without a GPU, and notes for the plan.

    Raises:
        PlanError: They need more than is free, with the arithmetic.
    """
    tokens = config.max_total_tokens or WANTED_CONTEXTS[0] * config.context_length
    needed = sum(slot.need.total(tokens) for slot in slots)
    free = inventory.memory_free_bytes
    if needed > free:
        each = ", ".join(f"{slot.name} {_gib(slot.need.total(tokens))}" for slot in slots)
        raise PlanError(
            f"not enough memory for {len(slots)} servers: {each}, together {_gib(needed)} GiB, but of "
            f"{_gib(inventory.memory_bytes)} GiB only {_gib(free)} GiB are free, so {_gib(needed - free)} GiB "
            "are missing; free some, use fewer or smaller models, or lower max_total_tokens."
        )
    shares = []
    for slot in slots:
        # The pool is limited by its tokens; the fraction must only not be what limits it.
        enough = mem_fraction(slot.need.static(tokens) * 5 // 4, free, 0)
        shares.append(Share((), tokens, min(0.95, max(CPU_FRACTION, enough))))
        free -= slot.need.total(tokens)
    return shares, []


def share_gpus(config: LaunchConfig, slots: Sequence[Slot], inventory: Inventory) -> tuple[list[Share], list[str]]:
    """GPUs and shares of their memory for every server, and notes for the plan.

    A server needs its weights, its overhead and a small KV pool. Once all have a place, what is left
    of each GPU goes to the pools.

    Raises:
        PlanError: They do not fit, with the arithmetic.
    """
    room = {gpu.index: _room(gpu) for gpu in inventory.gpus}
    notes = []
    for contexts in WANTED_CONTEXTS:
        tokens = min(contexts * config.context_length, config.max_total_tokens or 1 << 62)
        demands = [_demand(slot, tokens) for slot in slots]
        places = place(demands, room)
        if not isinstance(places, Unplaced):
            break
    if isinstance(places, Unplaced):
        raise PlanError(_refusal(config, demands, places, inventory, room))
    if contexts < max(WANTED_CONTEXTS):
        notes.append("Memory is tight: a KV pool may hold less than two full contexts, so long requests queue.")
    for gpu in inventory.gpus:
        sharing = sum(gpu.index in gpus for gpus in places)
        if sharing > 1:
            notes.append(f"GPU {gpu.index} is shared by {sharing} servers, which start one after the other.")
    kv_tokens = [_grown(config, tokens, factor) for factor in kv_growth(demands, places, room)]
    return _fractions(slots, places, kv_tokens, inventory), notes


def _room(gpu: Gpu) -> int:
    return max(0, gpu.free_bytes - kept_back(gpu))


def _demand(slot: Slot, tokens: int) -> Demand:
    total, kv_bytes = slot.need.total(tokens), tokens * slot.need.kv_token
    return Demand(slot.name, slot.model.name, slot.model.tp, total, kv_bytes)


def _grown(config: LaunchConfig, tokens: int, factor: float) -> int:
    grown = max(tokens, int(tokens * factor) // KV_STEP * KV_STEP)
    return min(grown, config.max_total_tokens or grown)


def _fractions(
    slots: Sequence[Slot],
    places: Sequence[tuple[int, ...]],
    kv_tokens: Sequence[int],
    inventory: Inventory,
) -> list[Share]:
    """Follow the start, server by server, to know what each of them will find free."""
    free = {gpu.index: gpu.free_bytes for gpu in inventory.gpus}
    result = []
    for slot, gpus, tokens in zip(slots, places, kv_tokens, strict=True):
        # A tensor-parallel server works with the least of its GPUs.
        least, most = min(free[gpu] for gpu in gpus), max(free[gpu] for gpu in gpus)
        fraction = mem_fraction(slot.need.static(tokens), least, slot.need.context)
        context = slot.need.context
        balanced = least - context >= TP_BALANCE * (most - context)
        result.append(Share(gpus, tokens, fraction, balanced))
        for gpu in gpus:
            free[gpu] -= slot.need.total(tokens)
    return result


def _refusal(
    config: LaunchConfig,
    demands: Sequence[Demand],
    failed: Unplaced,
    inventory: Inventory,
    room: Mapping[int, int],
) -> str:
    needed = sum(demand.total_bytes * demand.tp for demand in demands)
    each = ", ".join(
        f"{demand.name} {_gib(demand.total_bytes)}" + (f" on each of {demand.tp} GPUs" if demand.tp > 1 else "")
        for demand in demands
    )
    there = ", ".join(_room_in_words(inventory))
    missing = needed - sum(room.values())
    worst = failed.demand
    if missing > 0:
        lack = f"so {_gib(missing)} GiB are missing"
    else:
        left = failed.left[worst.tp - 1]
        lack = f"so {worst.name} finds at most {_gib(left)} GiB left and lacks {_gib(worst.total_bytes - left)} GiB"
    return (
        f"{len(demands)} servers do not fit (in GiB, with a KV pool of one full context): {each}, together "
        f"{_gib(needed)}, but {there}, {lack}; {_advice(config, demands, inventory, room)}."
    )


def _room_in_words(inventory: Inventory) -> list[str]:
    """What the GPUs have to give, equal ones told together."""
    alike: dict[str, list[str]] = {}
    for gpu in inventory.gpus:
        room, free, total, kept = map(_gib, (_room(gpu), gpu.free_bytes, gpu.total_bytes, kept_back(gpu)))
        words = f"{room} to give ({free} free of {total}, {kept} kept back)"
        alike.setdefault(words, []).append(str(gpu.index))
    return [
        f"GPU {gpus[0]} has {words}" if len(gpus) == 1 else f"GPUs {'+'.join(gpus)} have each {words}"
        for words, gpus in alike.items()
    ]


def _advice(config: LaunchConfig, demands: Sequence[Demand], inventory: Inventory, room: Mapping[int, int]) -> str:
    large = next((d for d in demands if d.total_bytes > max(room.values())), None)
    if large is not None and 2 * large.tp <= len(inventory.gpus):
        return f"spread {large.pair} over more GPUs (tp: {2 * large.tp}) or use a smaller model"
    without_kv = sum((d.total_bytes - d.kv_bytes) * d.tp for d in demands)
    if large is None and without_kv < sum(room.values()):
        return f"lower context_length (now {config.context_length}), use fewer or smaller models, or more GPUs"
    return "use fewer models (--hetero), smaller models or more GPUs"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"
