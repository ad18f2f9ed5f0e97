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

Role = Literal["prefill", "decode", "plain"]
PAIR: tuple[Role, ...] = ("prefill", "decode")

CUDA_CONTEXT_BYTES = 3 * GIB // 4
"""What a server holds before it measures the free memory: CUDA context and loaded kernels."""
WORKSPACE_BYTES = 5 * GIB // 4
"""Attention workspace (FlashInfer takes 0.5 GiB), cuBLAS, small CUDA graphs, request tables, transfer."""
DECODE_GRAPH_BYTES = GIB // 2
"""CUDA graphs of decoding up to 256 requests: 2 MiB a request, as SGLang itself reserves."""
NCCL_BYTES = GIB // 2
"""What tensor parallelism adds: NCCL's channels and the all-reduce buffers."""
CPU_PROCESS_BYTES = 7 * GIB // 10
"""What a forked CPU server holds beside weights and KV pool: interpreter, PyTorch, SGLang.

Six of them with the router were measured at 5.5 GiB, of which weights and KV pools are 2.7."""
VLLM_GRAPH_BYTES = 3 * GIB // 2
"""CUDA graphs of vLLM up to twice 256 requests, whole and in pieces; an estimate."""
VLLM_SAMPLER_COPIES = 4
"""32-bit numbers for each request and token of the vocabulary that vLLM's sampler, and its profiling run, hold."""
VLLM_CPU_PROCESS_BYTES = 2 * GIB
"""What a vLLM server on a CPU holds beside weights and KV pool: two processes, started fresh."""
CHUNKED_PREFILL_TOKENS = 8192
"""SGLang's own choice on GPUs of 60 to 160 GB, and more than its choice on smaller ones; vLLM is told."""
UNCHUNKED_PREFILL_TOKENS = 16384
"""The largest prefill when chunking is switched off."""
VLLM_PREFILL_FLAG = "--max-num-batched-tokens"
"""By which vLLM is told the tokens of its largest step."""
GPU_MAX_RUNNING_REQUESTS = 256
"""Of each server on a GPU: bounds the table of request slots, which otherwise has 2048 rows of one context each."""
DECODE_TOKENS = 2048
"""Tokens in one forward pass that SGLang itself reserves for on a decode server."""

KV_ELEMENT_BYTES = {
    "bf16": 2,
    "bfloat16": 2,
    "fp8": 1,
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
    kv_step_bytes: int = 1
    """The KV pool is a multiple of this: of a GiB with vLLM on a CPU."""

    def total_bytes(self, kv_tokens: int) -> int:
        """All memory of the server with a KV pool of `kv_tokens`."""
        return self.cuda_context_bytes + self.weight_bytes + self.kv_pool_bytes(kv_tokens) + self.runtime_bytes

    def kv_pool_bytes(self, kv_tokens: int) -> int:
        """The KV pool alone."""
        return math.ceil(kv_tokens * self.kv_bytes_per_token / self.kv_step_bytes) * self.kv_step_bytes

    def kv_tokens(self, kv_tokens: int) -> int:
        """The tokens for which a KV pool made for `kv_tokens` has room."""
        return self.kv_pool_bytes(kv_tokens) // self.kv_bytes_per_token


def gpu_requirement(model: ModelConfig, shape: ModelShape, role: Role, arguments: Sequence[str]) -> MemoryRequirement:
    """What a server needs on each of its GPUs; `arguments` are its extra flags."""
    dtype_size, tp = dtype_bytes(model), model.tp
    tokens = DECODE_TOKENS if role == "decode" else max_prefill_tokens(arguments)
    # The peak within a layer: the two MLP inputs with their product, residual and attention.
    activations = tokens * (3 * shape.intermediate_size // tp + 6 * shape.hidden_size) * dtype_size
    if model.engine == "vllm":
        graphs = VLLM_GRAPH_BYTES + VLLM_SAMPLER_COPIES * 4 * GPU_MAX_RUNNING_REQUESTS * shape.vocab_size
    else:
        graphs = 0 if role == "prefill" else DECODE_GRAPH_BYTES
    return MemoryRequirement(
        weight_bytes=math.ceil(shape.weight_bytes(dtype_size) / tp),
        cuda_context_bytes=CUDA_CONTEXT_BYTES,
        runtime_bytes=WORKSPACE_BYTES + activations + graphs + (NCCL_BYTES if tp > 1 else 0),
        kv_bytes_per_token=shape.kv_bytes_per_token(kv_element_bytes(model, arguments), tp),
    )


def cpu_requirement(model: ModelConfig, shape: ModelShape, arguments: Sequence[str]) -> MemoryRequirement:
    """What a server needs of the host's memory; `arguments` are its extra flags."""
    dtype_size, is_vllm = dtype_bytes(model), model.engine == "vllm"
    return MemoryRequirement(
        weight_bytes=shape.weight_bytes(dtype_size),
        cuda_context_bytes=0,
        runtime_bytes=VLLM_CPU_PROCESS_BYTES if is_vllm else CPU_PROCESS_BYTES,
        # vLLM keeps the cache in the type of the weights there, whatever its flags say.
        kv_bytes_per_token=shape.kv_bytes_per_token(dtype_size if is_vllm else kv_element_bytes(model, arguments)),
        kv_step_bytes=GIB if is_vllm else 1,
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
    value = _value_of("--chunked-prefill-size", arguments) or _value_of(VLLM_PREFILL_FLAG, arguments) or ""
    if not value.lstrip("-").isdigit():
        return CHUNKED_PREFILL_TOKENS
    return int(value) if int(value) > 0 else UNCHUNKED_PREFILL_TOKENS


def _value_of(flag: str, arguments: Sequence[str]) -> str | None:
    """The value of a flag, given as `--flag value` or `--flag=value`; the last one counts, as for argparse.

    vLLM's parser takes underscores for its dashes too.
    """
    parts = [part for argument in arguments for part in argument.split("=", 1)]
    return next((value for name, value in reversed(list(pairwise(parts))) if name.replace("_", "-") == flag), None)
