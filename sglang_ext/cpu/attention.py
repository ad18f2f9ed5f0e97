"""Prefill attention that costs only the new tokens."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention


def prefix_aware_extend(
    original: Callable[..., Any],
    self: object,
    query: torch.Tensor,
    output: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    req_to_token: torch.Tensor,
    req_pool_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    extend_prefix_lens: torch.Tensor,
    extend_seq_lens: torch.Tensor,
    encoder_lens: torch.Tensor | None = None,
    scaling: float | None = None,
    enable_gqa: bool = False,
    causal: bool = False,
    is_cross_attn: bool = False,
    sliding_window_size: int | None = None,
) -> torch.Tensor:
    """AROUND `TorchNativeAttnBackend._run_sdpa_forward_extend`, with the same shapes.

    Attends the `extend_seq_lens[i]` new queries of sequence i to its `seq_lens[i]` keys. SGLang pads the
    queries to `seq_lens[i]`. Encoder and cross attention are left to SGLang.
    """
    if encoder_lens is not None or is_cross_attn:
        return original(
            self, query, output, k_cache, v_cache, req_to_token, req_pool_indices, seq_lens,
            extend_prefix_lens, extend_seq_lens, encoder_lens, scaling, enable_gqa, causal,
            is_cross_attn, sliding_window_size,
        )  # fmt: skip
    window = sliding_window_size if sliding_window_size is not None and sliding_window_size > -1 else None
    start = 0
    lengths = zip(extend_seq_lens.tolist(), extend_prefix_lens.tolist(), seq_lens.tolist(), strict=True)
    for row, (new, prefix, total) in zip(req_pool_indices, lengths, strict=True):
        slots = req_to_token[row, :total]
        rows = slice(start, start + new)
        # SGLang's window implies causal attention.
        needs_mask = window is not None or (causal and prefix > 0)
        mask = _causal_mask(prefix, new, total, window) if needs_mask else None
        attended = scaled_dot_product_attention(
            query[rows].transpose(0, 1).unsqueeze(0),
            k_cache[slots].to(query.dtype).transpose(0, 1).unsqueeze(0),
            v_cache[slots].to(query.dtype).transpose(0, 1).unsqueeze(0),
            attn_mask=mask,
            is_causal=causal and mask is None,
            scale=scaling,
            enable_gqa=enable_gqa,
        )
        output[rows] = attended.squeeze(0).transpose(0, 1)
        start += new
    return output


def _causal_mask(prefix: int, new: int, total: int, window: int | None) -> torch.Tensor:
    """Return bool `[new, total]`: which keys query `j`, at position `prefix + j`, attends to."""
    queries = torch.arange(prefix, prefix + new).unsqueeze(1)
    keys = torch.arange(total)
    mask = keys <= queries
    return mask if window is None else mask & (keys >= queries - window)
