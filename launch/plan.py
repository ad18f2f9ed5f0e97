"""The plan: every server with its GPUs, memory, ports and command line. Nothing is started here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from launch.allocation import Share, Slot, share_gpus, share_host
from launch.config import LaunchConfig, ModelConfig
from launch.errors import PlanError
from launch.flags import extra_args, server_argv, server_env
from launch.inventory import Inventory
from launch.memory import Role, cpu_need, gpu_need
from launch.shapes import Shape, shape_of


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
    router_args: tuple[str, ...] = ()
    """More flags for the router."""

    def waves(self) -> list[list[ServerPlan]]:
        """The servers in groups to start one group after the other, each group in parallel.

        On GPUs, those that share one never start together and keep the plan's order: the memory
        fractions depend on it. On CPU every server starts alone.
        """
        waves: list[list[ServerPlan]] = []
        next_free: dict[int, int] = {}
        for server in self.servers:
            wave = max((next_free.get(gpu, 0) for gpu in server.gpus), default=len(waves))
            if wave == len(waves):
                waves.append([])
            waves[wave].append(server)
            next_free.update(dict.fromkeys(server.gpus, wave + 1))
        return waves


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
    to serve a model from; it is asked once per model, and only when the servers fit.

    Raises:
        PlanError: The servers do not fit, with the arithmetic.
        ConfigError: The size of a model cannot be found out.
    """
    shapes = {model.name: shape_of(model) for model in config.models}
    for model in config.models:
        _check_model(config, model, shapes[model.name], inventory)
    slots = _slots(config, shapes, inventory)
    share_out = share_gpus if inventory.gpus else share_host
    shares, notes = share_out(config, slots, inventory)
    folders = {model.name: folder_of(model) for model in config.models}
    router = ports() if router_port is None else router_port
    servers = [
        _server(config, slot, share, folders[slot.model.name], host, ports)
        for slot, share in zip(slots, shares, strict=True)
    ]
    return Plan(tuple(servers), router, inventory.device, tuple(notes), tuple(config.router_args))


def _server(
    config: LaunchConfig, slot: Slot, share: Share, folder: str, host: str, ports: Callable[[], int]
) -> ServerPlan:
    port, nccl_port = ports(), ports()
    bootstrap_port = ports() if slot.role == "prefill" else None
    argv = server_argv(
        config,
        slot.model,
        slot.role,
        model_path=folder,
        on_gpu=bool(share.gpus),
        host=host,
        port=port,
        bootstrap_port=bootstrap_port,
        nccl_port=nccl_port,
        fraction=share.fraction,
        kv_tokens=share.kv_tokens,
    )
    env = server_env(config, share.gpus)
    if not share.balanced:
        env.setdefault("SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK", "0")
    return ServerPlan(
        name=slot.name,
        model=slot.model,
        role=slot.role,
        gpus=share.gpus,
        memory_bytes=slot.need.total(share.kv_tokens),
        mem_fraction=share.fraction,
        port=port,
        bootstrap_port=bootstrap_port,
        argv=argv,
        env=env,
        kv_tokens=share.kv_tokens,
    )


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
        raise PlanError(f"{model.name} has tp {model.tp}, but the number of GPUs is {len(inventory.gpus)}; lower tp.")
    if shape.heads % model.tp or (shape.kv_heads % model.tp and model.tp % shape.kv_heads):
        raise PlanError(
            f"{model.name} has tp {model.tp}, which does not divide its {shape.heads} attention and "
            f"{shape.kv_heads} key-value heads; choose another tp."
        )


def _slots(config: LaunchConfig, shapes: Mapping[str, Shape], inventory: Inventory) -> list[Slot]:
    slots = []
    roles: tuple[Role, ...] = ("prefill", "decode")
    for model in config.models:
        shape = shapes[model.name]
        for role in roles:
            on_gpu = gpu_need(model, shape, role, extra_args(config, model, role))
            slots.append(Slot(model, role, on_gpu if inventory.gpus else cpu_need(model, shape)))
    return slots
