"""Fabricated machines and a model of how SGLang takes GPU memory when servers start."""

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


def start_on_gpus(plan: Plan, inventory: Inventory, *, runtime_at_once: bool = True) -> dict[str, int]:
    """Start the servers wave by wave as SGLang 0.5.17 would; gives each one's KV pool in tokens.

    Written from SGLang's side, independently of the planner: the free memory is noted after the CUDA
    context, the weights are loaded, the pool gets what is then free less a slack of (1 - fraction) of
    the noted memory, at most `--max-total-tokens`. `runtime_at_once` says whether activations and
    graphs are allocated before the next server starts or only under load.
    """
    free = {gpu.index: gpu.free_bytes for gpu in inventory.gpus}
    pools = {}
    owed = dict.fromkeys(free, 0)
    for wave in plan.waves():
        used = [gpu for server in wave for gpu in server.gpus]
        assert len(used) == len(set(used)), "two servers of one wave share a GPU"
        for server in wave:
            requirement = requirement_of(server)
            before_weights = requirement.cuda_context_bytes
            loaded = before_weights + requirement.weight_bytes
            noted = min(free[gpu] - before_weights for gpu in server.gpus)
            available = min(free[gpu] - loaded for gpu in server.gpus)
            rest = available - noted * (1 - server.mem_fraction_static)
            assert rest > 0, f"{server.name}: the weights leave no memory for the KV cache"
            tokens = min(int(rest) // requirement.kv_bytes_per_token, int(flag(server, "--max-total-tokens")))
            pools[server.name] = tokens
            for gpu in server.gpus:
                free[gpu] -= loaded + tokens * requirement.kv_bytes_per_token
                (free if runtime_at_once else owed)[gpu] -= requirement.runtime_bytes
                assert free[gpu] + owed[gpu] >= 0, f"GPU {gpu} runs out of memory at {server.name}"
    return pools
