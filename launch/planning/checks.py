"""What of a config a machine cannot do, whatever memory is free."""

from launch.config.schema import LaunchConfig, ModelConfig
from launch.errors import PlanError
from launch.machine.inventory import Inventory
from launch.models.shapes import ModelShape
from launch.planning.memory import PAIR, kv_cache_dtype
from launch.planning.server_flags import extra_arguments


def check_config(config: LaunchConfig, inventory: Inventory) -> None:
    """Raise `PlanError` where the config, whatever its models, asks for what the machine does not have."""
    if config.mps and not inventory.gpus:
        raise PlanError("mps is for servers that share a GPU, and this machine has none; leave mps out.")


def check_model(config: LaunchConfig, model: ModelConfig, shape: ModelShape, inventory: Inventory) -> None:
    """Raise `PlanError` unless a model can be served on the machine as the config says, whatever memory is free."""
    if shape.max_context is not None and config.context_length > shape.max_context:
        raise PlanError(
            f"context_length is {config.context_length}, but {model.name} was made for {shape.max_context} "
            "tokens; lower context_length."
        )
    kept_as = [kv_cache_dtype(extra_arguments(config, model, role)) for role in PAIR]
    if not model.is_plain and kept_as[0] != kept_as[1]:
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
            if model.engine == "sglang" and value not in (None, cpu_backend):
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
