"""How much memory one server needs, and the `--mem-fraction-static` that makes SGLang use just that.

Every number is in bytes, per GPU where a server spans several, and on the host where there is no GPU.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from launch.config.schema import ModelConfig
from launch.machine.units import GIB
from launch.models.shapes import ModelShape

Role = Literal["prefill", "decode"]

CUDA_CONTEXT_BYTES = 3 * GIB // 4
"""What a server holds before it measures the free memory: CUDA context and loaded kernels."""
WORKSPACE_BYTES = 5 * GIB // 4
"""Attention workspace (FlashInfer takes 0.5 GiB), cuBLAS, CUDA graphs, request tables, transfer."""
NCCL_BYTES = GIB // 2
"""What tensor parallelism adds: NCCL's channels and the all-reduce buffers."""
CPU_PROCESS_BYTES = 7 * GIB // 10
"""What a forked CPU server holds beside weights and KV pool: interpreter, PyTorch, SGLang.

Six of them with the router were measured at 5.5 GiB, of which weights and KV pools are 2.7."""
CHUNKED_PREFILL_TOKENS = 8192
"""SGLang's own choice on GPUs of 60 to 160 GB, and more than its choice on smaller ones."""
UNCHUNKED_PREFILL_TOKENS = 16384
"""The largest prefill when chunking is switched off."""
DECODE_TOKENS = 2048
"""Tokens in one forward pass that SGLang itself reserves for on a decode server."""


@dataclass(frozen=True)
class MemoryRequirement:
    """Memory of one server on each of its GPUs, or on the host with `cuda_context_bytes` 0."""

    weight_bytes: int
    cuda_context_bytes: int
    runtime_bytes: int
    """Activations, workspaces and graphs."""
    kv_bytes_per_token: int

    def total_bytes(self, kv_tokens: int) -> int:
        """All memory of the server with a KV pool of `kv_tokens`."""
        return self.cuda_context_bytes + self.static_bytes(kv_tokens) + self.runtime_bytes

    def static_bytes(self, kv_tokens: int) -> int:
        """Weights and KV pool: what SGLang calls static."""
        return self.weight_bytes + kv_tokens * self.kv_bytes_per_token


def gpu_requirement(model: ModelConfig, shape: ModelShape, role: Role, arguments: Sequence[str]) -> MemoryRequirement:
    """What a server needs on each of its GPUs; `arguments` are its extra flags."""
    dtype_size, tp = dtype_bytes(model), model.tp
    # A KV head that cannot be divided any further is replicated on several ranks.
    kv_heads_per_rank = max(1, shape.kv_heads // tp)
    tokens = max_prefill_tokens(arguments) if role == "prefill" else DECODE_TOKENS
    # The peak within a layer: the two MLP inputs with their product, residual and attention.
    activations = tokens * (3 * shape.intermediate_size // tp + 6 * shape.hidden_size) * dtype_size
    return MemoryRequirement(
        weight_bytes=math.ceil(shape.weight_bytes(dtype_size) / tp),
        cuda_context_bytes=CUDA_CONTEXT_BYTES,
        runtime_bytes=WORKSPACE_BYTES + activations + (NCCL_BYTES if tp > 1 else 0),
        kv_bytes_per_token=shape.kv_bytes_per_token(dtype_size) * kv_heads_per_rank // shape.kv_heads,
    )


def cpu_requirement(model: ModelConfig, shape: ModelShape) -> MemoryRequirement:
    """What a server needs of the host's memory."""
    dtype_size = dtype_bytes(model)
    return MemoryRequirement(
        weight_bytes=shape.weight_bytes(dtype_size),
        cuda_context_bytes=0,
        runtime_bytes=CPU_PROCESS_BYTES,
        kv_bytes_per_token=shape.kv_bytes_per_token(dtype_size),
    )


def dtype_bytes(model: ModelConfig) -> int:
    """Bytes per parameter; SGLang's `auto` is always a 16-bit type."""
    return 4 if model.dtype in ("float", "float32") else 2


def max_prefill_tokens(arguments: Sequence[str]) -> int:
    """Tokens of the largest prefill step that the flags allow."""
    tokens = CHUNKED_PREFILL_TOKENS
    parts = [part for argument in arguments for part in argument.split("=", 1)]
    for flag, value in pairwise(parts):
        if flag == "--chunked-prefill-size" and value.lstrip("-").isdigit():
            tokens = int(value) if int(value) > 0 else UNCHUNKED_PREFILL_TOKENS
    return tokens


def mem_fraction_static(static_bytes: int, free_bytes_at_start: int, cuda_context_bytes: int) -> float:
    """`--mem-fraction-static` of a server that starts with `free_bytes_at_start` free on its GPU.

    SGLang 0.5.17 notes the free memory once the CUDA context stands and before the weights are
    loaded (`pre_model_load_memory`, distributed/bootstrap.py), loads the weights, and gives the KV
    pool what is then free less `pre_model_load_memory * (1 - fraction)`
    (`KVCacheConfigurator._profile_available_bytes`, mem_cache/kv_cache_configurator.py), so

        weights + KV pool = fraction * pre_model_load_memory
        fraction          = (weights + KV pool) / (free_bytes_at_start - cuda_context_bytes)

    The fraction thus refers to what was FREE when this very server started, not to the GPU's size:
    on a shared GPU it depends on everything that started before. It is rounded up; the plan also
    passes `--max-total-tokens`, so a server that finds more memory free than predicted (the servers
    before it allocate some of theirs only under load) does not take what is theirs.
    """
    return math.ceil(static_bytes / (free_bytes_at_start - cuda_context_bytes) * 10_000) / 10_000
