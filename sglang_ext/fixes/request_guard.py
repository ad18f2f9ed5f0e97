"""Rejects requests that would end a server, or would be answered with 500.

SGLang 0.5.17 checks most values of a request. A few pass the checks and fail inside a batch: the scheduler
raises, and the server ends with every client's request. Others are answered with 500, so that a router
retries elsewhere and stops using servers that work.
"""

import math
from functools import cache
from typing import TYPE_CHECKING, Any, TypeGuard

import msgspec

from sglang_ext.fixes.grammar_patterns import check_grammar_patterns
from sglang_ext.fixes.patterns import check_pattern
from sglang_ext.fixes.rooms import claim_room
from sglang_ext.upstream.request import HttpRequest
from sglang_ext.upstream.scheduler import TokenizerManager

if TYPE_CHECKING:
    import torch

INT32, INT64 = 2**31 - 1, 2**63 - 1
NOT_CHECKED = {"custom_params"}  # SGLang accepts more than its type says
# Fields that SGLang computes from others and a client could set as well.
INTERNAL = {"stop_strs", "stop_regex_strs", "stop_str_max_len", "stop_regex_max_len", "is_normalized"}
MAX_PAIR_LOGPROBS = 128  # for each token: a prefill server has no room to pass more to its decode server
# Logits are divided by the temperature (at least 1e-6) in float32, which ends at 3e38, and by the repetition penalty.
MAX_BIAS = 1e6
MIN_REPETITION_PENALTY = 0.01
MAX_TEMPERATURE = 1e6
MAX_STOPS = 1024  # strings, patterns or ids: each is compared with each token
MEDIA = ("image", "video", "audio")
# A batch has a value for each prompt; a list in a request of one prompt passes SGLang's checks and ends the scheduler.
ONE_FOR_A_PROMPT = (
    "return_logprob",
    "return_sampling_mask",
    "return_hidden_states",
    "lora_path",
    "lora_id",
    "custom_logit_processor",
    "extra_key",
    "bootstrap_host",
    "bootstrap_port",
)
INTEGERS = (
    ("max_new_tokens", 0, INT32),
    ("min_new_tokens", 0, INT32),
    ("sampling_seed", -INT64, INT64),
    ("stream_interval", 1, INT32),
)


def reject_harmful_values(manager: TokenizerManager, obj: HttpRequest, input_ids: list[int] | None) -> None:
    """BEFORE `TokenizerManager._validate_one_request`: a `ValueError` is answered with 400.

    `obj` may also be an `EmbeddingReqInput`, which has fewer fields.
    """
    vocabulary = manager.model_config.vocab_size
    if input_ids:
        allowed = placeholders(manager.model_config.hf_config) if obj.contains_mm_input() else frozenset()
        _check_ids("input_ids", input_ids, vocabulary, allowed)
    _check_one_for_a_prompt(obj)
    if obj.lora_id is not None and obj.lora_path is None:
        raise ValueError("`lora_id` is set by the server; name the adapter with `lora_path`.")
    _check_replaced_embeddings(obj, manager.model_config.hidden_size)
    _check_sampling(obj.sampling_params or {}, manager.sampling_params_class, vocabulary)
    if hasattr(obj, "logprob_start_len"):
        of_pair = manager.server_args.disaggregation_mode != "null"
        _check_logprobs(obj, min(vocabulary, MAX_PAIR_LOGPROBS) if of_pair else vocabulary)
        if of_pair and getattr(obj, "return_sampling_mask", False):
            raise ValueError("`return_sampling_mask` is not available on prefill/decode servers; leave it out.")
        _check_integer("priority", obj.priority, -INT32, INT32)
        if manager.server_args.enable_metrics:
            _check_labels(obj.custom_labels, manager.server_args.tokenizer_metrics_allowed_custom_labels)
        if of_pair:
            claim_room(manager, obj)


def placeholders(hf_config: object) -> frozenset[int]:
    """Return the token ids that stand for an image, a video or a sound in a prompt.

    They may lie outside the vocabulary, as that of Llama 3.2 Vision does. SGLang takes them out of requests that bring
    such data, and of no others.
    """
    found = (getattr(hf_config, f"{kind}_{name}", None) for kind in MEDIA for name in ("token_id", "token_index"))
    return frozenset(each for each in found if isinstance(each, int))


def _check_ids(name: str, ids: list[int], vocabulary: int, allowed: frozenset[int] = frozenset()) -> None:
    try:
        outside = next((each for each in (min(ids), max(ids)) if not 0 <= each < vocabulary), None)
        if outside in allowed:
            outside = next((each for each in ids if not 0 <= each < vocabulary and each not in allowed), None)
    except TypeError:
        raise ValueError(f"`{name}` must be a list of integers.") from None
    if outside is not None:
        raise ValueError(f"`{name}`: token ids must be from 0 to {vocabulary - 1}, got {outside}.")


def _check_one_for_a_prompt(obj: HttpRequest) -> None:
    for name in ONE_FOR_A_PROMPT:
        if isinstance(getattr(obj, name, None), list):
            raise ValueError(f"`{name}` must be one value, since the request has one prompt; got a list.")


def _check_replaced_embeddings(obj: HttpRequest, width: int) -> None:
    """Vectors in place of tokens' embeddings are copied into the model's inputs by the scheduler."""
    if obj.positional_embed_overrides is not None:
        embeddings = getattr(obj.positional_embed_overrides, "embeds", None)
        if embeddings is None:
            raise ValueError("`positional_embed_overrides` is not taken: no JSON can say it.")
        _check_width(embeddings, width)
    for vector in getattr(obj, "embed_overrides", None) or []:
        _check_width(vector, width)


def _check_width(vectors: "torch.Tensor", width: int) -> None:
    if vectors.shape[-1] != width:
        raise ValueError(f"vectors in place of embeddings must have {width} numbers, got {vectors.shape[-1]}.")


def _check_labels(labels: dict[str, str] | None, allowed: list[str] | None) -> None:
    """A metric refuses labels that it was not made with, and that ends the HTTP process."""
    unknown = next((name for name in labels or {} if name not in (allowed or ())), None)
    if unknown is not None:
        raise ValueError(f"`custom_labels` has {unknown[:40]!r}, which is no label of this server's metrics.")


def _check_logprobs(obj: HttpRequest, limit: int) -> None:
    count = obj.top_logprobs_num
    if count is not None and not (_is_integer(count) and 0 <= count <= limit):
        raise ValueError(f"`top_logprobs_num` must be an integer from 0 to {limit}, got {count}.")
    start = obj.logprob_start_len
    if start is not None and not (_is_integer(start) and -1 <= start <= INT32):
        raise ValueError(f"`logprob_start_len` must be -1, for none of the prompt, or an index into it, got {start}.")


def _check_sampling(params: dict[str, Any], params_class: type, vocabulary: int) -> None:
    types = _field_types(params_class)
    for name, value in params.items():
        if name not in types:
            raise ValueError(f"`sampling_params` knows no {name!r}.")
        if value is not None and name not in NOT_CHECKED:
            _check_type(name, value, types[name])
    for name, low, high in INTEGERS:
        _check_integer(name, params.get(name), low, high)
    _check_numbers(params)
    _check_stops(params, vocabulary)
    check_grammar_patterns(params)
    bias = params.get("logit_bias") or {}
    if bias:
        _check_ids("logit_bias", [_token_id(token) for token in bias], vocabulary)
    for token, value in bias.items():
        if not -MAX_BIAS <= value <= MAX_BIAS:
            raise ValueError(f"`logit_bias` must be from {-MAX_BIAS:g} to {MAX_BIAS:g}, got {value} for {token}.")


def _check_numbers(params: dict[str, Any]) -> None:
    top_k = params.get("top_k")
    if top_k is not None and top_k != -1 and not 1 <= top_k <= INT32:
        raise ValueError(f"`top_k` must be from 1 to {INT32}, or -1 for all tokens, got {top_k}.")
    penalty = params.get("repetition_penalty")
    if penalty is not None and not MIN_REPETITION_PENALTY <= penalty <= 2:
        raise ValueError(f"`repetition_penalty` must be from {MIN_REPETITION_PENALTY} to 2, got {penalty}.")
    temperature = params.get("temperature")
    if temperature is not None and not 0 <= temperature <= MAX_TEMPERATURE:
        raise ValueError(f"`temperature` must be from 0 to {MAX_TEMPERATURE:g}, got {temperature}.")


def _check_stops(params: dict[str, Any], vocabulary: int) -> None:
    if ids := params.get("stop_token_ids"):
        _check_ids("stop_token_ids", ids, vocabulary)
    patterns = _as_list(params.get("stop_regex"))
    stops = {"stop": _as_list(params.get("stop")), "stop_regex": patterns, "stop_token_ids": ids or []}
    for name, given in stops.items():
        if len(given) > MAX_STOPS:
            raise ValueError(f"`{name}` must have at most {MAX_STOPS} entries, got {len(given)}.")
    for pattern in patterns:
        check_pattern("stop_regex", pattern)


def _as_list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []


def _token_id(key: str) -> int:
    try:
        return int(key)
    except ValueError:
        raise ValueError(f"`logit_bias` must have token ids as keys, got {key[:40]!r}.") from None


@cache
def _field_types(params_class: type) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(params_class) if field.name not in INTERNAL}


def _check_type(name: str, value: object, expected: object) -> None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # clients may write 1 as 1.0 in JSON
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"`{name}` must be a finite number, got {value}.")
    try:
        msgspec.convert(value, expected)
    except msgspec.ValidationError as error:
        raise ValueError(f"`{name}` does not fit: {error}.") from None


def _check_integer(name: str, value: Any, low: int, high: int) -> None:
    """Raise `ValueError` if a value that may be missing lies outside its range; 1.0 counts as 1."""
    if value is not None and not low <= value <= high:
        raise ValueError(f"`{name}` must be from {low} to {high}, got {value}.")


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
