"""What SGLang's model code passes to its layers."""

from typing import Protocol


class ForwardMode(Protocol):
    """`sglang.srt.model_executor.forward_batch_info.ForwardMode`."""

    def is_extend(self) -> bool:
        """Whether the pass prefills."""


class CaptureHiddenMode(Protocol):
    """`sglang.srt.model_executor.forward_batch_info.CaptureHiddenMode`."""

    def need_capture(self) -> bool:
        """Whether hidden states are returned."""


class ForwardBatch(Protocol):
    """`sglang.srt.model_executor.forward_batch_info.ForwardBatch`: the tensors and flags of one forward pass."""

    is_prefill_only: bool  # no request generates a token
    forward_mode: ForwardMode
    return_logprob: bool
    multi_item_delimiter_indices: list[object] | None
    capture_hidden_mode: CaptureHiddenMode
