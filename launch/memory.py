"""What one server needs of a GPU or of the host, and the fraction that makes SGLang use just that.

Every number is in bytes, and per GPU where a server spans several.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from launch.config import ModelConfig
from launch.inventory import GIB
from launch.shapes import Shape

Role = Literal["prefill", "decode"]

CONTEXT_BYTES = 3 * GIB // 4
"""What a server holds before it measures the free memory: CUDA context and loaded kernels."""
WORKSPACE_BYTES = 5 * GIB // 4
"""Attention workspace (FlashInfer takes 0.5 GiB), cuBLAS, CUDA graphs, request tables, transfer."""
NCCL_BYTES = GIB // 2
"""What tensor parallelism adds: NCCL's channels and the all-reduce buffers."""
CPU_PRIVATE_BYTES = 7 * GIB // 10
"""What a forked CPU server holds beside weights and KV pool: interpreter, PyTorch, SGLang.

Six of them with the router were measured at 5.5 GiB, of which weights and KV pools are 2.7."""
CHUNKED_PREFILL = 8192
"""SGLang's own choice on GPUs of 60 to 160 GB, and more than its choice on smaller ones."""
DECODE_TOKENS = 2048
"""Tokens in one forward pass that SGLang itself reserves for on a decode server."""
MAX_PREFILL_TOKENS = 16384
"""The largest prefill when chunking is switched off."""


@dataclass(frozen=True)
class Need:
    """Memory of one server on each of its GPUs (or on the host, with `context` 0)."""

    weights: int
    context: int
    runtime: int
    kv_token: int

    def total(self, kv_tokens: int) -> int:
        """All that the server takes with a KV pool of `kv_tokens`."""
        return self.context + self.static(kv_tokens) + self.runtime

    def static(self, kv_tokens: int) -> int:
        """Weights and KV pool: what SGLang calls static."""
        return self.weights + kv_tokens * self.kv_token


def gpu_need(model: ModelConfig, shape: Shape, role: Role, args: Sequence[str]) -> Need:
    """What a server needs of each of its GPUs; `args` are its extra flags."""
    size, tp = dtype_bytes(model), model.tp
    # A head that cannot be divided any further is held by several ranks.
    kv_share = max(1, shape.kv_heads // tp)
    tokens = chunked_prefill(args) if role == "prefill" else DECODE_TOKENS
    # The widest moment of a layer: the two MLP inputs with their product, residual and attention.
    activations = tokens * (3 * shape.intermediate // tp + 6 * shape.hidden) * size
    return Need(
        weights=math.ceil(shape.weight_bytes(size) / tp),
        context=CONTEXT_BYTES,
        runtime=WORKSPACE_BYTES + activations + (NCCL_BYTES if tp > 1 else 0),
        kv_token=shape.kv_bytes_per_token(size) * kv_share // shape.kv_heads,
    )


def cpu_need(model: ModelConfig, shape: Shape) -> Need:
    """What a server needs of the host."""
    size = dtype_bytes(model)
    return Need(shape.weight_bytes(size), 0, CPU_PRIVATE_BYTES, shape.kv_bytes_per_token(size))


def dtype_bytes(model: ModelConfig) -> int:
    """Bytes per parameter; SGLang's `auto` is always a 16-bit type."""
    return 4 if model.dtype in ("float", "float32") else 2


def chunked_prefill(args: Sequence[str]) -> int:
    """Tokens of the largest prefill step that the flags allow."""
    tokens = CHUNKED_PREFILL
    words = [word for arg in args for word in arg.split("=", 1)]
    for flag, value in pairwise(words):
        if flag == "--chunked-prefill-size" and value.lstrip("-").isdigit():
            tokens = int(value) if int(value) > 0 else MAX_PREFILL_TOKENS
    return tokens


def mem_fraction(static: int, free_at_start: int, context: int) -> float:
    """`--mem-fraction-static` of a server that starts with `free_at_start` bytes free on its GPU.

    SGLang 0.5.17 notes the free memory once the CUDA context stands and before the weights are
    loaded (`pre_model_load_memory`, distributed/bootstrap.py), loads the weights, and gives the KV
    pool what is then free less `pre_model_load_memory * (1 - fraction)`
    (`KVCacheConfigurator._profile_available_bytes`, mem_cache/kv_cache_configurator.py), so

        weights + KV pool = fraction * pre_model_load_memory
        fraction          = (weights + KV pool) / (free_at_start - context)

    The fraction thus refers to what was FREE when this very server started, not to the GPU's size:
    on a shared GPU it depends on everything that started before. It is rounded up; the plan also
    passes `--max-total-tokens`, so a server that finds more memory free than predicted (its
    predecessors allocate some of theirs only under load) does not take what is theirs.
    """
    return math.ceil(static / (free_at_start - context) * 10_000) / 10_000
