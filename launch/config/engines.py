"""The engines that can serve a model, and the sampling parameters for which their servers can have defaults."""

from typing import Literal

Engine = Literal["sglang", "vllm"]
ENGINES = ["sglang", "vllm"]

_OF_BOTH = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
]
SAMPLING_PARAMETERS: dict[Engine, list[str]] = {
    # What SGLang's SamplingParams accepts without a tokenizer.
    "sglang": [*_OF_BOTH, "max_new_tokens", "min_new_tokens", "ignore_eos", "sampling_seed"],
    # What `--override-generation-config` passes on to requests; `max_new_tokens` would be a limit there, no default.
    "vllm": _OF_BOTH,
}
"""By engine, and by SGLang's names."""
