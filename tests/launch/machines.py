"""Fabricated machines and a model of how SGLang takes GPU memory when servers start."""

from collections.abc import Callable
from itertools import count

from launch.inventory import GIB, Gpu, Inventory
from launch.memory import Need, gpu_need
from launch.plan import Plan, ServerPlan
from launch.shapes import shape_of

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


def need_of(server: ServerPlan) -> Need:
    return gpu_need(server.model, shape_of(server.model), server.role, server.argv)


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
            need = need_of(server)
            assert server.mem_fraction is not None
            noted = min(free[gpu] - need.context for gpu in server.gpus)
            available = min(free[gpu] - need.context - need.weights for gpu in server.gpus)
            rest = available - noted * (1 - server.mem_fraction)
            assert rest > 0, f"{server.name}: the weights leave no memory for the KV cache"
            tokens = min(int(rest) // need.kv_token, int(flag(server, "--max-total-tokens")))
            pools[server.name] = tokens
            for gpu in server.gpus:
                free[gpu] -= need.context + need.weights + tokens * need.kv_token
                (free if runtime_at_once else owed)[gpu] -= need.runtime
                assert free[gpu] + owed[gpu] >= 0, f"GPU {gpu} runs out of memory at {server.name}"
    return pools
