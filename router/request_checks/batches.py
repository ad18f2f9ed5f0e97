"""How many prompts a request has."""

from collections.abc import Mapping
from typing import Any

from router.errors import BadRequest

# SGLang's paths that generate: they take request ids, several samples, and a data-parallel rank.
GENERATION_PATHS = frozenset(("/generate", "/v1/chat/completions", "/v1/completions"))
MAX_BATCH = 10_000  # prompts of one request
# Where SGLang reads the prompts from: the first of these fields that is present.
PROMPT_FIELDS = {"/generate": ("text", "input_ids"), "/v1/completions": ("prompt",)}

# Fields of `/generate` that have a value for each prompt of a batch. With one prompt, a list in some of them ends
# SGLang 0.5.17, and means nothing in the others.
ONE_FOR_A_PROMPT = (
    "return_logprob",
    "logprob_start_len",
    "top_logprobs_num",
    "return_sampling_mask",
    "return_hidden_states",
    "lora_path",
    "custom_logit_processor",
    "extra_key",
)


def batch_size(body: Mapping[str, Any], path: str) -> int | None:
    """The number of prompts where SGLang sees a batch, that is a list of them; None where it sees one prompt."""
    for key in PROMPT_FIELDS.get(path, ()):
        if (prompt := body.get(key)) is not None:
            return len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list) else None
    return None


def check_one_for_a_prompt(fields: Mapping[str, Any], path: str) -> None:
    """Raise `BadRequest` for a list of values, one for each prompt of a batch, where the request has one prompt."""
    if path != "/generate" or batch_size(fields, path) is not None:
        return
    for name in ONE_FOR_A_PROMPT:
        if isinstance(fields.get(name), list):
            raise BadRequest(f"`{name}` must be one value, since the request has one prompt; got a list.")


def check_batch(body: Mapping[str, Any], path: str) -> None:
    """Raise `BadRequest` for more than `MAX_BATCH` prompts."""
    size = batch_size(body, path)
    if size is not None and size > MAX_BATCH:
        raise BadRequest(f"the batch has {size} prompts, and {MAX_BATCH} is the most; send several requests.")
