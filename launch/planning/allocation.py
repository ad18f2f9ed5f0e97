"""Shares out the machine's memory: GPUs, KV pool and memory fraction of every server."""

from collections.abc import Sequence
from dataclasses import dataclass

from launch.config.schema import LaunchConfig, ModelConfig
from launch.errors import PlanError
from launch.machine.inventory import Inventory
from launch.planning.memory import MemoryRequirement, Role, mem_fraction_static
from launch.planning.placement import GpuRequest, Placement, PlacementFailure, kv_pool_growth, place_servers
from launch.planning.refusal import cpu_refusal, gpu_refusal
from launch.planning.reserve import available_bytes

MIN_KV_POOL_CONTEXTS = (2, 1)
"""Full contexts that each KV pool must hold: two, or only one where two do not fit."""
KV_POOL_STEP_TOKENS = 64
MIN_CPU_MEM_FRACTION = 0.3
MAX_CPU_MEM_FRACTION = 0.95
TP_MIN_FREE_RATIO = 0.95
"""SGLang refuses a tensor-parallel server when one of its GPUs has less than 0.9 of another's free memory.

The plan counts with the smallest of them, so below this ratio that check is switched off."""


@dataclass(frozen=True)
class ServerSpec:
    """A server to allocate memory for."""

    model: ModelConfig
    role: Role
    requirement: MemoryRequirement

    @property
    def name(self) -> str:
        """The server's name: `MODEL-prefill` or `MODEL-decode`."""
        return f"{self.model.name}-{self.role}"


@dataclass(frozen=True)
class Allocation:
    """A server's share of the machine."""

    gpus: tuple[int, ...]
    """NVML indexes; empty on a CPU."""
    kv_tokens: int
    mem_fraction_static: float
    gpus_equally_free: bool = True
    """Whether the GPUs of a tensor-parallel server have about the same free memory when it starts."""


def allocate_on_cpu(
    config: LaunchConfig, specs: Sequence[ServerSpec], inventory: Inventory
) -> tuple[list[Allocation], list[str]]:
    """Shares of host memory for servers without a GPU, and notes for the plan.

    Raises:
        PlanError: They need more than is free, with the arithmetic.
    """
    tokens = config.max_total_tokens or MIN_KV_POOL_CONTEXTS[0] * config.context_length
    total_bytes = {spec.name: spec.requirement.total_bytes(tokens) for spec in specs}
    free = inventory.memory_free_bytes
    if sum(total_bytes.values()) > free:
        raise PlanError(cpu_refusal(total_bytes, inventory))
    allocations = []
    for spec in specs:
        # The pool is limited by its tokens; the fraction must only be large enough, so it gets a quarter more.
        fraction = mem_fraction_static(spec.requirement.static_bytes(tokens) * 5 // 4, free, 0)
        fraction = min(MAX_CPU_MEM_FRACTION, max(MIN_CPU_MEM_FRACTION, fraction))
        allocations.append(Allocation((), tokens, fraction))
        free -= total_bytes[spec.name]
    return allocations, []


def allocate_on_gpus(
    config: LaunchConfig, specs: Sequence[ServerSpec], inventory: Inventory
) -> tuple[list[Allocation], list[str]]:
    """GPUs and shares of their memory for every server, and notes for the plan.

    First every server is placed with its weights, its overhead and a small KV pool. Then what is left of each GPU
    goes to the pools.

    Raises:
        PlanError: They do not fit, with the arithmetic.
    """
    available = {gpu.index: available_bytes(gpu) for gpu in inventory.gpus}
    notes = []
    for contexts in MIN_KV_POOL_CONTEXTS:
        tokens = min(contexts * config.context_length, config.max_total_tokens or 1 << 62)
        requests = [_gpu_request(spec, tokens) for spec in specs]
        placement = place_servers(requests, available)
        if not isinstance(placement, PlacementFailure):
            break
    if isinstance(placement, PlacementFailure):
        raise PlanError(gpu_refusal(config, requests, placement, inventory))
    if contexts < max(MIN_KV_POOL_CONTEXTS):
        notes.append("Memory is tight: a KV pool may hold less than two full contexts, so long requests queue.")
    for gpu in inventory.gpus:
        sharing = sum(gpu.index in gpus for gpus in placement)
        if sharing > 1:
            notes.append(f"GPU {gpu.index} is shared by {sharing} servers, which start one after the other.")
    kv_tokens = [_grow(config, tokens, factor) for factor in kv_pool_growth(requests, placement, available)]
    return _with_fractions(specs, placement, kv_tokens, inventory), notes


def _gpu_request(spec: ServerSpec, kv_tokens: int) -> GpuRequest:
    return GpuRequest(
        name=spec.name,
        pair=spec.model.name,
        tensor_parallel_size=spec.model.tp,
        bytes_per_gpu=spec.requirement.total_bytes(kv_tokens),
        kv_bytes_per_gpu=kv_tokens * spec.requirement.kv_bytes_per_token,
    )


def _grow(config: LaunchConfig, kv_tokens: int, factor: float) -> int:
    grown = max(kv_tokens, int(kv_tokens * factor) // KV_POOL_STEP_TOKENS * KV_POOL_STEP_TOKENS)
    return min(grown, config.max_total_tokens or grown)


def _with_fractions(
    specs: Sequence[ServerSpec], placement: Placement, kv_tokens: Sequence[int], inventory: Inventory
) -> list[Allocation]:
    """Follow the start, server by server, to know how much memory each of them will find free."""
    free = {gpu.index: gpu.free_bytes for gpu in inventory.gpus}
    allocations = []
    for spec, gpus, tokens in zip(specs, placement, kv_tokens, strict=True):
        requirement = spec.requirement
        context = requirement.cuda_context_bytes
        # A tensor-parallel server sizes its pool by the GPU with least free memory.
        min_free, max_free = min(free[gpu] for gpu in gpus), max(free[gpu] for gpu in gpus)
        fraction = mem_fraction_static(requirement.static_bytes(tokens), min_free, context)
        equally_free = min_free - context >= TP_MIN_FREE_RATIO * (max_free - context)
        allocations.append(Allocation(gpus, tokens, fraction, equally_free))
        for gpu in gpus:
            free[gpu] -= requirement.total_bytes(tokens)
    return allocations
