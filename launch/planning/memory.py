"""How much memory one server needs.

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
ROLES: tuple[Role, ...] = ("prefill", "decode")

CUDA_CONTEXT_BYTES = 3 * GIB // 4
"""What a server holds before it measures the free memory: CUDA context and loaded kernels."""
WORKSPACE_BYTES = 5 * GIB // 4
"""Attention workspace (FlashInfer takes 0.5 GiB), cuBLAS, small CUDA graphs, request tables, transfer."""
DECODE_GRAPH_BYTES = GIB // 2
"""CUDA graphs of a decode server up to 256 requests: 2 MiB a request, as SGLang itself reserves."""
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

KV_ELEMENT_BYTES = {
    "bf16": 2,
    "bfloat16": 2,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "mxfp8": 1 + 1 / 32,
    "nvfp4": 1 / 2 + 1 / 16,
    "fp4_mx_block16": 1 / 2 + 1 / 16,
    "fp4_e2m1": 1 / 2 + 1 / 16,
}
"""Bytes of an element by `--kv-cache-dtype`: one byte of scale for 32 elements of 8 bits, or for 16 of 4 bits."""


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
        return self.cuda_context_bytes + self.weight_bytes + self.kv_pool_bytes(kv_tokens) + self.runtime_bytes

    def kv_pool_bytes(self, kv_tokens: int) -> int:
        """The KV pool alone."""
        return kv_tokens * self.kv_bytes_per_token


def gpu_requirement(model: ModelConfig, shape: ModelShape, role: Role, arguments: Sequence[str]) -> MemoryRequirement:
    """What a server needs on each of its GPUs; `arguments` are its extra flags."""
    dtype_size, tp = dtype_bytes(model), model.tp
    tokens = max_prefill_tokens(arguments) if role == "prefill" else DECODE_TOKENS
    # The peak within a layer: the two MLP inputs with their product, residual and attention.
    activations = tokens * (3 * shape.intermediate_size // tp + 6 * shape.hidden_size) * dtype_size
    graphs = DECODE_GRAPH_BYTES if role == "decode" else 0
    return MemoryRequirement(
        weight_bytes=math.ceil(shape.weight_bytes(dtype_size) / tp),
        cuda_context_bytes=CUDA_CONTEXT_BYTES,
        runtime_bytes=WORKSPACE_BYTES + activations + graphs + (NCCL_BYTES if tp > 1 else 0),
        kv_bytes_per_token=shape.kv_bytes_per_token(kv_element_bytes(model, arguments), tp),
    )


def cpu_requirement(model: ModelConfig, shape: ModelShape, arguments: Sequence[str]) -> MemoryRequirement:
    """What a server needs of the host's memory; `arguments` are its extra flags."""
    dtype_size = dtype_bytes(model)
    return MemoryRequirement(
        weight_bytes=shape.weight_bytes(dtype_size),
        cuda_context_bytes=0,
        runtime_bytes=CPU_PROCESS_BYTES,
        kv_bytes_per_token=shape.kv_bytes_per_token(kv_element_bytes(model, arguments)),
    )


def dtype_bytes(model: ModelConfig) -> int:
    """Bytes per parameter; SGLang's `auto` is always a 16-bit type."""
    return 4 if model.dtype in ("float", "float32") else 2


def kv_cache_dtype(arguments: Sequence[str]) -> str:
    """The type in which the flags let the KV cache be kept; `auto` is that of the weights."""
    return _value_of("--kv-cache-dtype", arguments) or "auto"


def kv_element_bytes(model: ModelConfig, arguments: Sequence[str]) -> float:
    """Bytes of one element of the KV cache, with its share of the scales of its block."""
    return KV_ELEMENT_BYTES.get(kv_cache_dtype(arguments), dtype_bytes(model))


def max_prefill_tokens(arguments: Sequence[str]) -> int:
    """Tokens of the largest prefill step that the flags allow."""
    value = _value_of("--chunked-prefill-size", arguments) or ""
    if not value.lstrip("-").isdigit():
        return CHUNKED_PREFILL_TOKENS
    return int(value) if int(value) > 0 else UNCHUNKED_PREFILL_TOKENS


def _value_of(flag: str, arguments: Sequence[str]) -> str | None:
    """The value of a flag, given as `--flag value` or `--flag=value`; the last one counts, as for argparse."""
    parts = [part for argument in arguments for part in argument.split("=", 1)]
    return next((value for name, value in reversed(list(pairwise(parts))) if name == flag), None)
