"""An aborted request that asked for log-probabilities has empty ones, so that the client gets the reason.

SGLang 0.5.17 leaves them out of its internal answer, and the OpenAI endpoint fails at that with 500.
"""

from typing import Any


def add_missing_logprobs(result: object, manager: object, meta_info: dict[str, Any], *args: Any, **kwargs: Any) -> None:
    """AFTER `TokenizerManager.convert_logprob_style`: the keys that the endpoints read are there."""
    if "input_token_logprobs" in meta_info:
        return
    for key in ("input_token_logprobs", "output_token_logprobs", "input_top_logprobs", "output_top_logprobs"):
        meta_info.setdefault(key, [])
    meta_info.setdefault("output_token_logprobs_length", 0)
