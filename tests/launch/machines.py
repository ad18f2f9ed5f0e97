"""Fabricated machines and a model of how SGLang takes GPU memory when servers start, and start again."""

from collections.abc import Callable
from itertools import count

from launch.machine.gpus import Gpu
from launch.machine.inventory import Inventory
from launch.machine.units import GIB
from launch.models.lookup import shape_of
from launch.planning.memory import MemoryRequirement, gpu_requirement
from launch.planning.plan import Plan, ServerPlan

H200 = 139.8
H100 = 79.6


def gpu_machine(*free_gib: float, total_gib: float = H200) -> Inventory:
    gpus = tuple(
        Gpu(index, "NVIDIA H200", int(total_gib * GIB), int(free * GIB)) for index, free in enumerate(free_gib)
    )
    return Inventory(gpus, cores=16, memory_bytes=128 * GIB, memory_free_bytes=120 * GIB)


def empty_gpus(number: int, total_gib: float = H200) -> Inventory:
    return gpu_machine(*[total_gib - 0.6] * number, total_gib=total_gib)


def cpu_machine(free_gib: float) -> Inventory:
    return Inventory((), cores=2, memory_bytes=24 * GIB, memory_free_bytes=int(free_gib * GIB))


def port_counter(first: int = 30000) -> Callable[[], int]:
    counter = count(first)
    return lambda: next(counter)


def requirement_of(server: ServerPlan) -> MemoryRequirement:
    shape = shape_of(path=server.model.path, shape=server.model.shape)
    return gpu_requirement(server.model, shape, server.role, server.argv)


def flag(server: ServerPlan, name: str) -> str:
    return server.argv[server.argv.index(name) + 1]


def pool_of(server: ServerPlan, free: int, kv_bytes_per_token: int) -> int:
    """The KV pool in tokens that a server with the overlay makes when `free` bytes are left beside its weights.

    Written from SGLang's side, independently of the planner: the pool gets the planned bytes, if they are free, and at
    most `--max-total-tokens`.
    """
    pool_bytes = int(server.env["SGLANG_EXT_KV_POOL_BYTES"])
    assert pool_bytes <= free, f"{server.name}: the planned KV pool is not free"
    return min(pool_bytes // kv_bytes_per_token, int(flag(server, "--max-total-tokens")))


def start_on_gpus(plan: Plan, inventory: Inventory, *, runtime_at_once: bool = True) -> dict[str, int]:
    """Start the servers wave by wave, then each of them again; gives each one's KV pool in tokens.

    Those of a wave load one after the other here, so that the last one finds least.

    `runtime_at_once` says whether activations and graphs are allocated before the next server starts or only under
    load. The second start of a server finds everything taken that the others take at most.
    """
    free = {gpu.index: gpu.free_bytes for gpu in inventory.gpus}
    owed = dict.fromkeys(free, 0)
    pools = {}
    for wave in plan.waves():
        for server in wave:
            requirement = requirement_of(server)
            loaded = requirement.cuda_context_bytes + requirement.weight_bytes
            tokens = pool_of(server, min(free[gpu] for gpu in server.gpus) - loaded, requirement.kv_bytes_per_token)
            pools[server.name] = tokens
            for gpu in server.gpus:
                free[gpu] -= loaded + tokens * requirement.kv_bytes_per_token
                (free if runtime_at_once else owed)[gpu] -= requirement.runtime_bytes
                assert free[gpu] + owed[gpu] >= 0, f"GPU {gpu} runs out of memory at {server.name}"
    for server in plan.servers:
        requirement = requirement_of(server)
        loaded = requirement.cuda_context_bytes + requirement.weight_bytes
        left = min(free[gpu] + owed[gpu] for gpu in server.gpus) + requirement.total_bytes(pools[server.name]) - loaded
        assert pool_of(server, left, requirement.kv_bytes_per_token) == pools[server.name], "another pool at a restart"
    return pools
