"""The plan: every server with its GPUs, memory, ports and command line. Nothing is started here."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from launch.config import LaunchConfig, ModelConfig
from launch.errors import PlanError
from launch.flags import extra_args, server_argv, server_env
from launch.inventory import GIB, Gpu, Inventory
from launch.memory import Need, Role, cpu_need, gpu_need, mem_fraction
from launch.placement import Demand, Unplaced, kv_growth, place
from launch.shapes import Shape, shape_of

KEPT_BACK = 0.02
"""Share of each GPU's memory that no server gets: fragmentation, and the error of the estimates."""
WANTED_CONTEXTS = (2, 1)
"""Full contexts that each KV pool must hold: two, or only one where two do not fit."""
KV_STEP = 64
CPU_FRACTION = 0.3
# SGLang refuses a tensor-parallel server whose GPUs differ by more in free memory.
TP_BALANCE = 0.9


@dataclass(frozen=True)
class ServerPlan:
    """One server process to start."""

    name: str
    """The model's name and the role: `smollm2-a-prefill`."""
    model: ModelConfig
    role: Role
    gpus: tuple[int, ...]
    """NVML indexes; empty on CPU."""
    memory_bytes: int
    """Predicted use: on each of its GPUs, or of host memory on CPU."""
    mem_fraction: float | None
    port: int
    bootstrap_port: int | None
    """Where the prefill server's bootstrap listens; None for decode."""
    argv: tuple[str, ...]
    """The arguments after `python -m sglang.launch_server`."""
    env: dict[str, str]
    """Environment variables on top of the launcher's own."""
    kv_tokens: int = 0
    """Size of the KV pool in tokens."""


@dataclass(frozen=True)
class Plan:
    """All servers, in the order of the config and prefill before decode, and the router's port."""

    servers: tuple[ServerPlan, ...]
    router_port: int
    device: Literal["cpu", "gpu"]
    notes: tuple[str, ...]
    """What a person should know about this plan, one sentence each."""

    def waves(self) -> list[list[ServerPlan]]:
        """The servers in groups to start one group after the other, each group in parallel.

        On GPUs, those that share one never start together and keep the plan's order: the memory
        fractions depend on it. On CPU every server starts alone.
        """
        waves: list[list[ServerPlan]] = []
        next_wave: Counter[int] = Counter()
        for server in self.servers:
            wave = max((next_wave[gpu] for gpu in server.gpus), default=len(waves))
            if wave == len(waves):
                waves.append([])
            waves[wave].append(server)
            next_wave.update({gpu: wave + 1 - next_wave[gpu] for gpu in server.gpus})
        return waves


@dataclass(frozen=True)
class _Slot:
    """A server before it has a place."""

    model: ModelConfig
    role: Role
    need: Need

    @property
    def name(self) -> str:
        return f"{self.model.name}-{self.role}"


@dataclass(frozen=True)
class _Place:
    """A server's share of the machine."""

    gpus: tuple[int, ...]
    kv_tokens: int
    fraction: float
    balanced: bool = True


def model_folder(model: ModelConfig) -> str:
    """The `--model-path` of a model that nothing has prepared: its path, or `dummy:SHAPE`."""
    return model.path or f"dummy:{model.shape}"


def make_plan(
    config: LaunchConfig,
    inventory: Inventory,
    *,
    ports: Callable[[], int],
    host: str = "127.0.0.1",
    router_port: int | None = None,
    folder_of: Callable[[ModelConfig], str] = model_folder,
) -> Plan:
    """Place one prefill and one decode server per model on the machine.

    `ports` gives a port that is free and that it has not given before. `folder_of` gives the folder
    to serve a model from; it is asked only after the plan is known to be possible, twice per model.

    Raises:
        PlanError: The servers do not fit, with the arithmetic.
        ConfigError: The size of a model cannot be found out.
    """
    shapes = {model.name: shape_of(model) for model in config.models}
    for model in config.models:
        _check_model(config, model, shapes[model.name], inventory)
    slots = _slots(config, shapes, inventory)
    planner = _plan_gpus if inventory.gpus else _plan_cpu
    places, notes = planner(config, slots, inventory)
    router = ports() if router_port is None else router_port
    servers = []
    for slot, where in zip(slots, places, strict=True):
        port, nccl_port = ports(), ports()
        bootstrap_port = ports() if slot.role == "prefill" else None
        argv = server_argv(
            config,
            slot.model,
            slot.role,
            model_path=folder_of(slot.model),
            on_gpu=bool(where.gpus),
            host=host,
            port=port,
            bootstrap_port=bootstrap_port,
            nccl_port=nccl_port,
            fraction=where.fraction,
            kv_tokens=where.kv_tokens,
        )
        env = server_env(config, where.gpus)
        if not where.balanced:
            env.setdefault("SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK", "0")
        servers.append(
            ServerPlan(
                name=slot.name,
                model=slot.model,
                role=slot.role,
                gpus=where.gpus,
                memory_bytes=slot.need.total(where.kv_tokens),
                mem_fraction=where.fraction,
                port=port,
                bootstrap_port=bootstrap_port,
                argv=argv,
                env=env,
                kv_tokens=where.kv_tokens,
            )
        )
    return Plan(tuple(servers), router, inventory.device, tuple(notes))


def kept_back(gpu: Gpu) -> int:
    """Bytes of a GPU that the plan gives to nobody."""
    return int(gpu.total_bytes * KEPT_BACK)


def _check_model(config: LaunchConfig, model: ModelConfig, shape: Shape, inventory: Inventory) -> None:
    if shape.max_context is not None and config.context_length > shape.max_context:
        raise PlanError(
            f"context_length is {config.context_length}, but {model.name} was made for {shape.max_context} "
            "tokens; lower context_length."
        )
    if not inventory.gpus:
        if model.tp > 1:
            raise PlanError(f"{model.name} has tp {model.tp}, but this machine has no GPU; leave tp at 1.")
        for key, value, only in (
            ("attention_backend", config.attention_backend, "torch_native"),
            ("sampling_backend", config.sampling_backend, "pytorch"),
        ):
            if value not in (None, only):
                raise PlanError(f"{key} is {value}, which needs a GPU, and this machine has none; use {only}.")
        return
    if model.tp > len(inventory.gpus):
        raise PlanError(f"{model.name} has tp {model.tp}, but there are only {len(inventory.gpus)} GPUs; lower tp.")
    if shape.heads % model.tp or (shape.kv_heads % model.tp and model.tp % shape.kv_heads):
        raise PlanError(
            f"{model.name} has tp {model.tp}, which does not divide its {shape.heads} attention and "
            f"{shape.kv_heads} key-value heads; choose another tp."
        )


def _slots(config: LaunchConfig, shapes: Mapping[str, Shape], inventory: Inventory) -> list[_Slot]:
    slots = []
    roles: tuple[Role, ...] = ("prefill", "decode")
    for model in config.models:
        shape = shapes[model.name]
        for role in roles:
            on_gpu = gpu_need(model, shape, role, extra_args(config, model, role))
            slots.append(_Slot(model, role, on_gpu if inventory.gpus else cpu_need(model, shape)))
    return slots


def _plan_cpu(config: LaunchConfig, slots: Sequence[_Slot], inventory: Inventory) -> tuple[list[_Place], list[str]]:
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
    places = []
    for slot in slots:
        # The pool is limited by its tokens; the fraction must only not be what limits it.
        enough = mem_fraction(slot.need.static(tokens) * 5 // 4, free, 0)
        places.append(_Place((), tokens, min(0.95, max(CPU_FRACTION, enough))))
        free -= slot.need.total(tokens)
    return places, []


def _plan_gpus(config: LaunchConfig, slots: Sequence[_Slot], inventory: Inventory) -> tuple[list[_Place], list[str]]:
    room = {gpu.index: max(0, gpu.free_bytes - kept_back(gpu)) for gpu in inventory.gpus}
    notes = []
    for contexts in WANTED_CONTEXTS:
        tokens = min(contexts * config.context_length, config.max_total_tokens or 1 << 62)
        demands = [
            Demand(s.name, s.model.name, s.model.tp, s.need.total(tokens), tokens * s.need.kv_token) for s in slots
        ]
        places = place(demands, room)
        if not isinstance(places, Unplaced):
            break
        notes = ["Memory is tight: a KV pool holds less than two full contexts, so long requests wait for one another."]
    else:
        raise PlanError(_refusal(config, demands, places, inventory, room))
    for gpu in inventory.gpus:
        sharing = sum(gpu.index in gpus for gpus in places)
        if sharing > 1:
            notes.append(f"GPU {gpu.index} is shared by {sharing} servers, which start one after the other.")
    kv_tokens = [_grown(config, tokens, factor) for factor in kv_growth(demands, places, room)]
    return _fractions(slots, places, kv_tokens, inventory), notes


def _grown(config: LaunchConfig, tokens: int, factor: float) -> int:
    grown = max(tokens, int(tokens * factor) // KV_STEP * KV_STEP)
    return min(grown, config.max_total_tokens or grown)


def _fractions(
    slots: Sequence[_Slot],
    places: Sequence[tuple[int, ...]],
    kv_tokens: Sequence[int],
    inventory: Inventory,
) -> list[_Place]:
    """Follow the start, server by server, to know what each of them will find free."""
    free = {gpu.index: gpu.free_bytes for gpu in inventory.gpus}
    result = []
    for slot, gpus, tokens in zip(slots, places, kv_tokens, strict=True):
        # A tensor-parallel server works with the least of its GPUs.
        least, most = min(free[gpu] for gpu in gpus), max(free[gpu] for gpu in gpus)
        fraction = mem_fraction(slot.need.static(tokens), least, slot.need.context)
        result.append(_Place(gpus, tokens, fraction, balanced=least - GIB >= TP_BALANCE * most or len(gpus) == 1))
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
    there = ", ".join(
        f"GPU {gpu.index} has {_gib(room[gpu.index])} to give ({_gib(gpu.free_bytes)} free of "
        f"{_gib(gpu.total_bytes)}, {_gib(kept_back(gpu))} kept back)"
        for gpu in inventory.gpus
    )
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
