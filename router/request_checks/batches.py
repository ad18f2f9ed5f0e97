"""How many prompts a request has."""

from collections.abc import Mapping
from typing import Any

from router.errors import BadRequest

# SGLang's paths that generate: they take request ids, several samples, and a data-parallel rank.
GENERATION_PATHS = frozenset(("/generate", "/v1/chat/completions", "/v1/completions"))
MAX_BATCH = 10_000  # prompts of one request
# SGLang's own paths, on which a batch may have ids, parameters and other values for each of its prompts.
OWN_PATHS = frozenset(("/generate", "/encode", "/classify"))
# Where SGLang reads the prompts from: the first of these fields that is present.
PROMPT_FIELDS = {
    "/generate": ("text", "input_ids", "input_embeds"),
    "/encode": ("text", "input_ids"),
    "/classify": ("text", "input_ids"),
    "/v1/completions": ("prompt",),
}
# Fields of `OWN_PATHS` that may have a value for each prompt of a batch. With one prompt, a list in some of them
# ends SGLang 0.5.17; a list of another length is answered with 500.
ONE_FOR_A_PROMPT = (
    "sampling_params",
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
            if not isinstance(prompt, list) or not prompt or not isinstance(prompt[0], str | list):
                return None
            one = key == "input_embeds" and not (prompt[0] and isinstance(prompt[0][0], list))  # a vector for a token
            return None if one else len(prompt)
    return None


def check_values_of_prompts(fields: Mapping[str, Any], path: str) -> None:
    """Raise `BadRequest` for a list of values that has not one for each prompt of a batch; `path` is in `OWN_PATHS`."""
    lists = [name for name in fields if name in ONE_FOR_A_PROMPT and isinstance(fields[name], list)]
    counts = [(name, len(fields[name])) for name in lists]
    ids = fields.get("token_ids_logprob")
    if isinstance(ids, list) and ids and isinstance(ids[0], list):
        counts.append(("token_ids_logprob", len(ids)))
    if not counts:
        return
    size = batch_size(fields, path)
    for name, count in counts:
        _check_count(name, count, size)


def _check_count(name: str, count: int, size: int | None) -> None:
    if size is None:
        raise BadRequest(f"`{name}` must be one value, since the request has one prompt; got a list.")
    if count != size:
        raise BadRequest(f"`{name}` must be one value, or one for each of the {size} prompts; got {count}.")


def check_batch(body: Mapping[str, Any], path: str) -> None:
    """Raise `BadRequest` for more than `MAX_BATCH` prompts."""
    size = batch_size(body, path)
    if size is not None and size > MAX_BATCH:
        raise BadRequest(f"the batch has {size} prompts, and {MAX_BATCH} is the most; send several requests.")
