"""No logits for batches of segments."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sglang_ext.upstream.model import ForwardBatch

if TYPE_CHECKING:
    import torch


def skip_logits_of_segments(
    original: Callable[..., Any],
    processor: object,
    input_ids: "torch.Tensor",
    hidden_states: "torch.Tensor",
    lm_head: object,
    logits_metadata: ForwardBatch,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """AROUND `LogitsProcessor.forward`: skip the LM head for a prefill that generates and returns nothing.

    SGLang's models pass a `ForwardBatch` as `logits_metadata`; its type there also allows a `LogitsMetadata`.
    """
    from sglang.srt.layers.logits_processor import LogitsProcessorOutput

    if (
        getattr(logits_metadata, "is_prefill_only", False)
        and logits_metadata.forward_mode.is_extend()
        and not logits_metadata.return_logprob
        and logits_metadata.multi_item_delimiter_indices is None
        and not logits_metadata.capture_hidden_mode.need_capture()
    ):
        return LogitsProcessorOutput(next_token_logits=None)
    return original(processor, input_ids, hidden_states, lm_head, logits_metadata, *args, **kwargs)
