"""Shares out the machine's memory: GPUs and KV pool of every server."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from launch.config.schema import LaunchConfig, ModelConfig
from launch.errors import PlanError
from launch.machine.inventory import Inventory
from launch.planning.memory import MemoryRequirement, Role
from launch.planning.placement import GpuRequest, PlacementFailure, kv_pool_growth, place_servers
from launch.planning.refusal import cpu_refusal, gpu_refusal
from launch.planning.reserve import available_bytes

MIN_KV_POOL_CONTEXTS = (2, 1)
"""Full contexts that each KV pool must hold: two, or only one where two do not fit."""
KV_POOL_STEP_TOKENS = 64


@dataclass(frozen=True)
class ServerSpec:
    """A server to allocate memory for."""

    model: ModelConfig
    role: Role
    requirement: MemoryRequirement

    @property
    def name(self) -> str:
        """The server's name: `MODEL-prefill`, `MODEL-decode` or `MODEL-plain`."""
        return f"{self.model.name}-{self.role}"


@dataclass(frozen=True)
class Allocation:
    """A server's share of the machine."""

    gpus: tuple[int, ...]
    """NVML indexes; empty on a CPU."""
    kv_tokens: int
    """Size of the KV pool: the same at every start, whatever is free then."""


def allocate_on_cpu(
    config: LaunchConfig, specs: Sequence[ServerSpec], inventory: Inventory
) -> tuple[list[Allocation], list[str]]:
    """Shares of host memory for servers without a GPU, and notes for the plan.

    Raises:
        PlanError: They need more than is free, with the arithmetic.
    """
    tokens = config.max_total_tokens or MIN_KV_POOL_CONTEXTS[0] * config.context_length
    total_bytes = {spec.name: spec.requirement.total_bytes(tokens) for spec in specs}
    if sum(total_bytes.values()) > inventory.memory_free_bytes:
        raise PlanError(cpu_refusal(total_bytes, inventory))
    return [Allocation((), tokens) for _ in specs], []


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
    kv_tokens = [_grow(config, tokens, factor) for factor in kv_pool_growth(requests, placement, available)]
    allocations = [Allocation(gpus, tokens) for gpus, tokens in zip(placement, kv_tokens, strict=True)]
    for gpu, count in sorted(servers_by_gpu(allocations).items()):
        if count > 1:
            notes.append(f"GPU {gpu} is shared by {count} servers, which {_sharing(config)}.")
    return allocations, notes


def servers_by_gpu(allocations: Sequence[Allocation]) -> Counter[int]:
    """How many servers each GPU has, by NVML index."""
    return Counter(gpu for allocation in allocations for gpu in allocation.gpus)


def _sharing(config: LaunchConfig) -> str:
    if config.mps:
        return "use it at the same time (MPS)"
    return "take turns on it (--mps: use it at the same time)"


def _gpu_request(spec: ServerSpec, kv_tokens: int) -> GpuRequest:
    return GpuRequest(
        name=spec.name,
        pair=spec.model.name,
        tensor_parallel_size=spec.model.tp,
        bytes_per_gpu=spec.requirement.total_bytes(kv_tokens),
        kv_bytes_per_gpu=spec.requirement.kv_pool_bytes(kv_tokens),
        decode_bytes_per_gpu=0 if spec.role == "prefill" else spec.requirement.weight_bytes,
    )


def _grow(config: LaunchConfig, kv_tokens: int, factor: float) -> int:
    grown = max(kv_tokens, int(kv_tokens * factor) // KV_POOL_STEP_TOKENS * KV_POOL_STEP_TOKENS)
    return min(grown, config.max_total_tokens or grown)
