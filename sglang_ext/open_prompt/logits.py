"""A batch of segments needs KV, not logits."""

from collections.abc import Callable
from typing import Any


def only_when_wanted(
    original: Callable[..., Any], processor: Any, input_ids: Any, hidden_states: Any, head: Any, metadata: Any,
    *args: Any, **kwargs: Any,
) -> Any:  # fmt: skip
    """AROUND `LogitsProcessor.forward`: a batch that generates nothing and returns nothing skips the head."""
    from sglang.srt.layers.logits_processor import LogitsProcessorOutput

    if (
        getattr(metadata, "is_prefill_only", False)
        and metadata.forward_mode.is_extend()
        and not metadata.return_logprob
        and metadata.multi_item_delimiter_indices is None
        and not metadata.capture_hidden_mode.need_capture()
    ):
        return LogitsProcessorOutput(next_token_logits=None)
    return original(processor, input_ids, hidden_states, head, metadata, *args, **kwargs)
