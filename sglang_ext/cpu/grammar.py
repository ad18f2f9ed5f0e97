"""Constrained decoding (JSON schema, regular expression, EBNF) with xgrammar on host memory."""

from collections.abc import Callable
from typing import Any


def without_pinning(allocate: Callable[..., Any], vocab_size: int, batch_size: int) -> Any:
    """AROUND `_allocate_token_bitmask`: the same int32 bit mask, all allowed, in pageable memory."""
    import xgrammar

    return xgrammar.allocate_token_bitmask(batch_size, vocab_size)


def mask_on_host(apply: Callable[..., Any], grammar: Any, logits: Any, vocab_mask: Any) -> None:
    """AROUND `XGrammarGrammar.apply_vocab_mask`: forbidden tokens of logits (batch, vocabulary) get -inf, in place."""
    import xgrammar

    xgrammar.apply_token_bitmask_inplace(logits, vocab_mask)
