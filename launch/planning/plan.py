"""The plan: every server with its GPUs, memory, ports and command line. Nothing is started here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from launch.config.schema import LaunchConfig, ModelConfig
from launch.machine.inventory import Device, Inventory
from launch.machine.ports import LOOPBACK, address_to_connect
from launch.models.lookup import shape_of
from launch.models.shapes import ModelShape
from launch.planning.allocation import Allocation, ServerSpec, allocate_on_cpu, allocate_on_gpus, servers_by_gpu
from launch.planning.checks import check_config, check_model
from launch.planning.memory import PAIR, Role, cpu_requirement, gpu_requirement
from launch.planning.programs import PROGRAMS, Program
from launch.planning.server_flags import extra_arguments, server_argv, server_env
from launch.planning.vllm_flags import vllm_argv, vllm_env


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
    """Where the prefill server's bootstrap listens; None for the others."""
    argv: tuple[str, ...]
    """The arguments after `python -m` and the module of its program."""
    env: dict[str, str]
    """Environment variables on top of the launcher's own."""
    kv_tokens: int = 0
    """Size of the KV pool in tokens."""
    python: str | None = None
    """The interpreter that runs it; None is the launcher's own."""

    @property
    def program(self) -> Program:
        """What it runs."""
        return PROGRAMS[self.model.engine]


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
    mps: bool = False
    """Whether all servers are clients of a daemon of NVIDIA's Multi-Process Service, which the launch starts."""
    start_in_turn: bool = False
    """Whether servers that share a GPU start one after the other."""

    def waves(self) -> list[list[ServerPlan]]:
        """The servers in groups to start one group after the other, each group in parallel.

        SGLang's servers that share a GPU can start together, since the overlay makes each KV pool as large as planned,
        whatever is free. vLLM's measures what is free, so no other server may start on its GPU meanwhile. On CPU every
        server starts alone.
        """
        waves: list[list[ServerPlan]] = []
        next_shared: dict[int, int] = {}  # by GPU the first wave for a server that may start beside others there
        next_alone: dict[int, int] = {}  # and for one that may not
        for server in self.servers:
            is_alone = self.start_in_turn or server.model.engine == "vllm"
            next_wave = next_alone if is_alone else next_shared
            wave = max((next_wave.get(gpu, 0) for gpu in server.gpus), default=len(waves))
            if wave == len(waves):
                waves.append([])
            waves[wave].append(server)
            next_shared.update(dict.fromkeys(server.gpus, wave + is_alone))
            next_alone.update(dict.fromkeys(server.gpus, wave + 1))
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
    """Place the servers of every model on the machine: a prefill and a decode server, or one plain server.

    `host` is the address that the servers listen on. `ports` gives a port that is free and that it has not given
    before. `model_path_of` gives the `--model-path` of a model; it is called once per model, and only when the servers
    fit.

    Raises:
        PlanError: The servers do not fit, with the arithmetic.
        ConfigError: The size of a model cannot be found out.
    """
    check_config(config, inventory)
    shapes = {model.name: shape_of(path=model.path, shape=model.shape) for model in config.models}
    for model in config.models:
        check_model(config, model, shapes[model.name], inventory)
    specs = _server_specs(config, shapes, inventory)
    allocate = allocate_on_gpus if inventory.gpus else allocate_on_cpu
    allocations, notes = allocate(config, specs, inventory)
    model_paths = {model.name: model_path_of(model) for model in config.models}
    router = ports() if router_port is None else router_port
    servers = [
        _server_plan(config, spec, allocation, model_paths[spec.model.name], host, ports, inventory)
        for spec, allocation in zip(specs, allocations, strict=True)
    ]
    notes += [
        f"{model.name} has neither tokenizer nor pair: trees cannot ask it, only requests with input_ids can."
        for model in config.models
        if model.is_plain and model.shape is not None
    ]
    is_shared = any(count > 1 for count in servers_by_gpu(allocations).values())
    if config.mps and not is_shared:
        notes.append("No GPU is shared, so mps has no effect.")
    return Plan(
        tuple(servers),
        router,
        inventory.device,
        (*inventory.notes, *notes),
        tuple(config.router_args),
        mps=config.mps and is_shared,
        start_in_turn=config.start_in_turn,
    )


def _server_plan(
    config: LaunchConfig,
    spec: ServerSpec,
    allocation: Allocation,
    model_path: str,
    host: str,
    ports: Callable[[], int],
    inventory: Inventory,
) -> ServerPlan:
    model, requirement, gpus = spec.model, spec.requirement, allocation.gpus
    memory, pool = requirement.total_bytes(allocation.kv_tokens), requirement.kv_pool_bytes(allocation.kv_tokens)
    port, bootstrap_port, python = ports(), None, None
    if model.engine == "vllm":
        python = model.vllm_python or config.vllm_python
        # Of the memory that it finds free at its start the CUDA context is taken already.
        planned = memory - requirement.cuda_context_bytes
        smallest = min((gpu.total_bytes for gpu in inventory.gpus if gpu.index in gpus), default=0)
        argv = vllm_argv(
            config,
            model,
            model_path=model_path,
            host=host,
            port=port,
            kv_pool_bytes=pool,
            gpu_fraction=planned / smallest if gpus else None,
        )
        env = vllm_env(config, gpus, pool, host)
    else:
        nccl_port = ports()
        bootstrap_port = ports() if spec.role == "prefill" else None
        argv = server_argv(
            config,
            model,
            spec.role,
            model_path=model_path,
            on_gpu=bool(gpus),
            host=host,
            port=port,
            bootstrap_port=bootstrap_port,
            nccl_port=nccl_port,
            kv_tokens=allocation.kv_tokens,
        )
        env = server_env(config, gpus, pool, host)
    return ServerPlan(
        name=spec.name,
        model=model,
        role=spec.role,
        gpus=gpus,
        memory_bytes=memory,
        host=address_to_connect(host),
        port=port,
        bootstrap_port=bootstrap_port,
        argv=argv,
        env=env,
        kv_tokens=requirement.kv_tokens(allocation.kv_tokens),
        python=python,
    )


def _server_specs(config: LaunchConfig, shapes: Mapping[str, ModelShape], inventory: Inventory) -> list[ServerSpec]:
    specs = []
    for model in config.models:
        shape = shapes[model.name]
        for role in ("plain",) if model.is_plain else PAIR:
            arguments = extra_arguments(config, model, role)
            if inventory.gpus:
                requirement = gpu_requirement(model, shape, role, arguments)
            else:
                requirement = cpu_requirement(model, shape, arguments)
            specs.append(ServerSpec(model, role, requirement))
    return specs
