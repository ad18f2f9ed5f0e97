"""Constrained decoding (JSON schema, regular expression, EBNF) with xgrammar on host memory."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def allocate_pageable_bitmask(original: Callable[..., Any], vocab_size: int, batch_size: int) -> "torch.Tensor":
    """AROUND `_allocate_token_bitmask`: the same int32 mask, all tokens allowed, but not in pinned memory."""
    import xgrammar

    return xgrammar.allocate_token_bitmask(batch_size, vocab_size)


def apply_mask_on_cpu(
    original: Callable[..., Any], grammar: object, logits: "torch.Tensor", vocab_mask: "torch.Tensor"
) -> None:
    """AROUND `XGrammarGrammar.apply_vocab_mask`: forbidden logits become -inf, in place.

    `logits` has shape `[batch, vocabulary]`, `vocab_mask` one int32 bit for each.
    """
    import xgrammar

    xgrammar.apply_token_bitmask_inplace(logits, vocab_mask)
