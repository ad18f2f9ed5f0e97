"""Flags of SGLang and vLLM that a config may not pass on, since the plan sets them itself."""

from launch.config.engines import Engine

RESERVED_FLAGS = {
    "--attention-backend": "the key attention_backend",
    "--base-gpu-id": "the plan, which chooses the GPUs",
    "--context-length": "the key context_length",
    "--data-parallel-size": "the plan, which knows no data parallelism",
    "--device": "the plan, which chooses the device",
    "--disaggregation-bootstrap-port": "the plan, which chooses the ports",
    "--disaggregation-mode": "the key models.N.disaggregated",
    "--dp": "the plan, which knows no data parallelism",
    "--dp-size": "the plan, which knows no data parallelism",
    "--dtype": "the key models.N.dtype",
    "--gpu-id-step": "the plan, which chooses the GPUs",
    "--host": "the plan, which chooses the host",
    "--max-total-tokens": "the key max_total_tokens",
    "--mem-fraction-static": "the plan, which shares out the memory",
    "--model": "the key models.N.path",
    "--model-path": "the key models.N.path",
    "--nccl-port": "the plan, which chooses the ports",
    "--port": "the plan, which chooses the ports",
    "--sampling-backend": "the key sampling_backend",
    "--served-model-name": "the key models.N.name",
    "--tensor-parallel-size": "the key models.N.tp",
    "--tp": "the key models.N.tp",
    "--tp-size": "the key models.N.tp",
}
"""Flag of SGLang, and what sets it instead."""

VLLM_RESERVED_FLAGS = {
    "--data-parallel-size": "the plan, which knows no data parallelism",
    "-dp": "the plan, which knows no data parallelism",
    "--dtype": "the key models.N.dtype",
    "--gpu-memory-utilization": "the plan, which shares out the memory",
    "--headless": "the plan, whose router asks every server",
    "--host": "the plan, which chooses the host",
    "--kv-cache-memory-bytes": "the plan, which shares out the memory",
    "--max-model-len": "the key context_length",
    "--model": "the key models.N.path",
    "--override-generation-config": "the key models.N.sampling",
    "--pipeline-parallel-size": "the plan, which knows no pipeline parallelism",
    "-pp": "the plan, which knows no pipeline parallelism",
    "--port": "the plan, which chooses the ports",
    "--served-model-name": "the key models.N.name",
    "--tensor-parallel-size": "the key models.N.tp",
    "-tp": "the key models.N.tp",
    "--uds": "the plan, which chooses the ports",
}
"""Flag of vLLM, and what sets it instead."""


ROUTER_RESERVED_FLAGS = {
    "--tls-cert-path": "the launcher asks its router without TLS; put a proxy with TLS before it",
    "--tls-key-path": "the launcher asks its router without TLS; put a proxy with TLS before it",
}
"""Flag of the router, and why a config cannot have it."""


def refuse_router_flags(arguments: list[str]) -> list[str]:
    """The router's arguments unchanged; raises `ValueError` when one of them is reserved."""
    for argument in arguments:
        given = argument.split("=")[0]
        if given in ROUTER_RESERVED_FLAGS:
            raise ValueError(f"may not set {given}: {ROUTER_RESERVED_FLAGS[given]}")
    return arguments


def refuse_reserved_flags(arguments: list[str], engine: Engine = "sglang") -> list[str]:
    """The arguments unchanged; raises `ValueError` when one of them is reserved."""
    reserved = RESERVED_FLAGS if engine == "sglang" else VLLM_RESERVED_FLAGS
    for argument in arguments:
        given = argument.split("=")[0]
        flag = given if engine == "sglang" else given.replace("_", "-")  # vLLM's parser takes both
        if flag in reserved:
            raise ValueError(f"may not set {given}; it comes from {reserved[flag]}")
    return arguments
