"""Where constraints leave no token, the request is refused or ended, and the server goes on.

A grammar, `min_tokens` and stop tokens can together forbid every token. Then all logits are -inf, sampling raises, and
the server ends with every client's request.
"""

from typing import TYPE_CHECKING, Any

from sglang_ext.upstream.sampling import Grammar, GrammarBackend, SamplingBatch

if TYPE_CHECKING:
    import torch
    from sglang.srt.constrained.base_grammar_backend import InvalidGrammarObject

FORBIDDEN = -1e30  # by `min_tokens`; sampled where a grammar allows nothing else
IMPOSSIBLE = -2e30  # by the grammar; a float32 even when divided by the smallest temperature, 1e-6
EMPTY = "it accepts no text at all"


def refuse_empty_grammar(
    result: Grammar, backend: GrammarBackend, *args: Any, **kwargs: Any
) -> "InvalidGrammarObject | None":
    """AFTER `XGrammarGrammarBackend._from_context`: a grammar without a first token is invalid, which is a 400."""
    import xgrammar
    from sglang.srt.constrained.base_grammar_backend import InvalidGrammarObject

    mask = xgrammar.allocate_token_bitmask(1, backend.vocab_size)
    result.copy().fill_vocab_mask(mask, 0)
    return None if bool(mask.any()) else InvalidGrammarObject(EMPTY)


def keep_forbidden_possible(mask: object, logits: "torch.Tensor") -> None:
    """BEFORE `GrammarMask.apply`: what `min_tokens` forbids stays finite, since a grammar may allow nothing else."""
    _make_finite(logits, FORBIDDEN)


def keep_logits_finite(result: object, sampling: SamplingBatch, logits: "torch.Tensor") -> None:
    """AFTER `SamplingBatchInfo.apply_logits_bias`: a row without a possible token is sampled all the same.

    Its token is not in the grammar, which ends that request alone. Batches without constraints stay as they are.
    """
    penalties = sampling.penalizer_orchestrator
    if (
        sampling.grammar_mask is not None
        or sampling.logit_bias is not None
        or sampling.acc_additive_penalties is not None
        or sampling.acc_scaling_penalties is not None
        or (penalties is not None and penalties.is_required)
    ):
        _make_finite(logits, IMPOSSIBLE)


def _make_finite(logits: "torch.Tensor", lowest: float) -> None:
    import torch

    scale = min(1.0, torch.finfo(logits.dtype).max / 1e38)  # float16 ends at 65504
    torch.nan_to_num_(logits, nan=lowest * scale, posinf=-lowest * scale, neginf=lowest * scale)
