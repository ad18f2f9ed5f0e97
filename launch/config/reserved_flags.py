"""SGLang flags that a config may not pass on, since the plan sets them itself."""

RESERVED_FLAGS = {
    "--attention-backend": "the key attention_backend",
    "--base-gpu-id": "the plan, which chooses the GPUs",
    "--context-length": "the key context_length",
    "--data-parallel-size": "the plan, which knows no data parallelism",
    "--device": "the plan, which chooses the device",
    "--disaggregation-bootstrap-port": "the plan, which chooses the ports",
    "--disaggregation-mode": "the plan, which makes one server of each kind",
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
"""Flag, and what sets it instead."""


def refuse_reserved_flags(arguments: list[str]) -> list[str]:
    """The arguments unchanged; raises `ValueError` when one of them is reserved."""
    for argument in arguments:
        flag = argument.split("=")[0]
        if flag in RESERVED_FLAGS:
            raise ValueError(f"may not set {flag}; it comes from {RESERVED_FLAGS[flag]}")
    return arguments
