"""The plan: every server with its GPUs, memory, ports and command line. Nothing is started here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from launch.config.schema import LaunchConfig, ModelConfig
from launch.errors import PlanError
from launch.machine.inventory import Device, Inventory
from launch.machine.ports import LOOPBACK, address_to_connect
from launch.models.lookup import shape_of
from launch.models.shapes import ModelShape
from launch.planning.allocation import Allocation, ServerSpec, allocate_on_cpu, allocate_on_gpus
from launch.planning.memory import ROLES, Role, cpu_requirement, gpu_requirement, kv_cache_dtype
from launch.planning.server_flags import extra_arguments, server_argv, server_env


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
    host: str
    """The address at which the launcher and the router reach it."""
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
    device: Device
    notes: tuple[str, ...]
    """What a user should know about this plan, one sentence each."""
    router_args: tuple[str, ...] = ()
    """More flags for the router."""

    def waves(self) -> list[list[ServerPlan]]:
        """The servers in groups to start one group after the other, each group in parallel.

        On GPUs, those that share one never start together, so that one that needs more than it was planned with is
        seen by what the others find missing. On CPU every server starts alone.
        """
        waves: list[list[ServerPlan]] = []
        next_wave: dict[int, int] = {}
        for server in self.servers:
            wave = max((next_wave.get(gpu, 0) for gpu in server.gpus), default=len(waves))
            if wave == len(waves):
                waves.append([])
            waves[wave].append(server)
            next_wave.update(dict.fromkeys(server.gpus, wave + 1))
        return waves


def default_model_path(model: ModelConfig) -> str:
    """The `--model-path` of a model that nothing has prepared: its path, or `dummy:SHAPE`."""
    return model.path or f"dummy:{model.shape}"


def make_plan(
    config: LaunchConfig,
    inventory: Inventory,
    *,
    ports: Callable[[], int],
    host: str = LOOPBACK,
    router_port: int | None = None,
    model_path_of: Callable[[ModelConfig], str] = default_model_path,
) -> Plan:
    """Place one prefill and one decode server per model on the machine.

    `host` is the address that the servers listen on. `ports` gives a port that is free and that it has not given
    before. `model_path_of` gives the `--model-path` of a model; it is called once per model, and only when the servers
    fit.

    Raises:
        PlanError: The servers do not fit, with the arithmetic.
        ConfigError: The size of a model cannot be found out.
    """
    shapes = {model.name: shape_of(path=model.path, shape=model.shape) for model in config.models}
    for model in config.models:
        _check_model(config, model, shapes[model.name], inventory)
    specs = _server_specs(config, shapes, inventory)
    allocate = allocate_on_gpus if inventory.gpus else allocate_on_cpu
    allocations, notes = allocate(config, specs, inventory)
    model_paths = {model.name: model_path_of(model) for model in config.models}
    router = ports() if router_port is None else router_port
    servers = [
        _server_plan(config, spec, allocation, model_paths[spec.model.name], host, ports)
        for spec, allocation in zip(specs, allocations, strict=True)
    ]
    return Plan(tuple(servers), router, inventory.device, (*inventory.notes, *notes), tuple(config.router_args))


def _server_plan(
    config: LaunchConfig,
    spec: ServerSpec,
    allocation: Allocation,
    model_path: str,
    host: str,
    ports: Callable[[], int],
) -> ServerPlan:
    port, nccl_port = ports(), ports()
    bootstrap_port = ports() if spec.role == "prefill" else None
    argv = server_argv(
        config,
        spec.model,
        spec.role,
        model_path=model_path,
        on_gpu=bool(allocation.gpus),
        host=host,
        port=port,
        bootstrap_port=bootstrap_port,
        nccl_port=nccl_port,
        kv_tokens=allocation.kv_tokens,
    )
    env = server_env(config, allocation.gpus, spec.requirement.kv_pool_bytes(allocation.kv_tokens), host)
    return ServerPlan(
        name=spec.name,
        model=spec.model,
        role=spec.role,
        gpus=allocation.gpus,
        memory_bytes=spec.requirement.total_bytes(allocation.kv_tokens),
        host=address_to_connect(host),
        port=port,
        bootstrap_port=bootstrap_port,
        argv=argv,
        env=env,
        kv_tokens=allocation.kv_tokens,
    )


def _check_model(config: LaunchConfig, model: ModelConfig, shape: ModelShape, inventory: Inventory) -> None:
    if shape.max_context is not None and config.context_length > shape.max_context:
        raise PlanError(
            f"context_length is {config.context_length}, but {model.name} was made for {shape.max_context} "
            "tokens; lower context_length."
        )
    kept_as = [kv_cache_dtype(extra_arguments(config, model, role)) for role in ROLES]
    if kept_as[0] != kept_as[1]:
        raise PlanError(
            f"{model.name} has --kv-cache-dtype {kept_as[0]} for prefill and {kept_as[1]} for decode, but decode takes "
            "prefill's cache as it is; give both the same, in server_args."
        )
    if not inventory.gpus:
        if model.tp > 1:
            raise PlanError(f"{model.name} has tp {model.tp}, but this machine has no GPU; leave tp at 1.")
        for key, value, cpu_backend in (
            ("attention_backend", config.attention_backend, "torch_native"),
            ("sampling_backend", config.sampling_backend, "pytorch"),
        ):
            if value not in (None, cpu_backend):
                raise PlanError(f"{key} is {value}, which needs a GPU, and this machine has none; use {cpu_backend}.")
        return
    if model.tp > len(inventory.gpus):
        raise PlanError(f"{model.name} has tp {model.tp}, but the number of GPUs is {len(inventory.gpus)}; lower tp.")
    kv_heads_divide = shape.kv_lora_rank is not None or not (shape.kv_heads % model.tp and model.tp % shape.kv_heads)
    if shape.heads % model.tp or not kv_heads_divide:
        raise PlanError(
            f"{model.name} has tp {model.tp}, which does not divide its {shape.heads} attention and "
            f"{shape.kv_heads} key-value heads; choose another tp."
        )


def _server_specs(config: LaunchConfig, shapes: Mapping[str, ModelShape], inventory: Inventory) -> list[ServerSpec]:
    specs = []
    for model in config.models:
        shape = shapes[model.name]
        for role in ROLES:
            arguments = extra_arguments(config, model, role)
            if inventory.gpus:
                requirement = gpu_requirement(model, shape, role, arguments)
            else:
                requirement = cpu_requirement(model, shape, arguments)
            specs.append(ServerSpec(model, role, requirement))
    return specs
