"""From the command line's options to a config and a plan."""

import argparse

from rich.console import Console

from launch.config.loading import first_models, load_config, single_model
from launch.config.schema import LaunchConfig, ModelConfig
from launch.errors import ConfigError, PlanError
from launch.machine.interpreter import check_importable
from launch.machine.inventory import Inventory
from launch.machine.ports import FIRST_ROUTER_PORT, check_own_address, free_ports, is_free
from launch.models.dummy import write_dummy_model
from launch.models.packaged import cache_folder, prepare, smollm2_folder
from launch.planning.plan import Plan, make_plan
from launch.processes.mps import check_mps


def build_config(options: argparse.Namespace, inventory: Inventory) -> LaunchConfig:
    """The config that the command line asks for; raises `ConfigError`."""
    if options.model is not None:
        config = single_model(options.model, inventory.device)
    else:
        config = load_config(options.config, device=inventory.device)
        if options.hetero is not None:
            config = first_models(config, options.hetero)
    overrides = {
        key: value for key in ("attention_backend", "sampling_backend") if (value := getattr(options, key)) is not None
    }
    if overrides and all(model.engine == "vllm" for model in config.models):
        flag = f"--{next(iter(overrides)).replace('_', '-')}"
        raise ConfigError(f"{flag} is for SGLang's servers, but every model runs on vLLM; leave it out.")
    if options.mps is not None:
        overrides["mps"] = options.mps
    return config.model_copy(update=overrides)


def build_plan(options: argparse.Namespace, config: LaunchConfig, inventory: Inventory, console: Console) -> Plan:
    """The plan; models are prepared unless it is only to be printed.

    Raises:
        PlanError: It does not fit, the router's port is taken, no port or address is there for the servers, or vLLM or
            the daemon of MPS is missing.
    """
    if config.mps and inventory.gpus and not options.dry_run:
        check_mps()
    host = options.server_host
    check_own_address(host)
    if options.port is not None and not options.dry_run and not is_free(options.port):
        raise PlanError(f"port {options.port} is in use; choose another --port, or leave it out.")
    ports = free_ports(host, options.server_ports)
    router_port = options.port if options.port is not None else next(free_ports(start=FIRST_ROUTER_PORT))

    def next_port() -> int:
        port = next(ports)
        return port if port != router_port else next(ports)

    def model_path_of(model: ModelConfig) -> str:
        if model.shape is not None:
            folder = cache_folder() / f"dummy-{model.shape}"
            return str(folder if options.dry_run else write_dummy_model(model.shape, folder))
        assert model.path is not None
        if model.path.startswith("builtin:"):
            packaged = model.path.removeprefix("builtin:")
            return str(smollm2_folder() if options.dry_run else prepare(packaged, console.print))
        return model.path

    plan = make_plan(
        config, inventory, ports=next_port, host=host, router_port=router_port, model_path_of=model_path_of
    )
    if not options.dry_run:
        environments = {server.python: server.env for server in plan.servers if server.model.engine == "vllm"}
        for python, env in environments.items():
            check_importable(python, "vllm", "let vllm_python name the python of an environment that has vLLM", env)
    return plan
