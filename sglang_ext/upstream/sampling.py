"""How SGLang constrains and samples the tokens of a batch."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class Grammar(Protocol):
    """`sglang.srt.constrained.xgrammar_backend.XGrammarGrammar`: how far one request has come in its grammar."""

    def copy(self) -> "Grammar":
        """Return the grammar at its beginning."""

    def fill_vocab_mask(self, vocab_mask: "torch.Tensor", idx: int) -> None:
        """Write which tokens may come next into row `idx` of an int32 mask, a bit for each token."""


class GrammarBackend(Protocol):
    """`sglang.srt.constrained.xgrammar_backend.XGrammarGrammarBackend`: compiles grammars."""

    vocab_size: int


class Penalties(Protocol):
    """`sglang.srt.sampling.penaltylib.orchestrator.BatchedPenalizerOrchestrator`: a batch's penalties on logits."""

    is_required: bool


class SamplingBatch(Protocol):
    """`sglang.srt.sampling.sampling_batch_info.SamplingBatchInfo`: how to sample the requests of a batch."""

    grammar_mask: object | None
    logit_bias: "torch.Tensor | None"
    acc_additive_penalties: "torch.Tensor | None"
    acc_scaling_penalties: "torch.Tensor | None"
    penalizer_orchestrator: Penalties | None
