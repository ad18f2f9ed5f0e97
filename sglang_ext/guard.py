"""Requests that would end a server, or pass for its failure, refused before they reach its scheduler.

SGLang 0.5.17 checks most of what a request says, but a few values pass and fail inside a batch: the scheduler
raises, and the whole server with every other client's request goes down with it. Others are answered with 500,
after which a router tries again elsewhere, and stops sending to servers that did nothing wrong.
"""

import math
import re
from functools import cache
from typing import Any

import msgspec

INT32, INT64 = 2**31 - 1, 2**63 - 1
LEFT_TO_UPSTREAM = {"custom_params", "json_schema", "structural_tag"}  # which takes more than their types say
MOST_LOGPROBS = 128  # of a token, that a prefill server has room to tell its decode server


def refuse_harmful(manager: Any, obj: Any, input_ids: Any) -> None:
    """BEFORE `TokenizerManager._validate_one_request`, whose `ValueError` becomes an answer with 400."""
    vocabulary = manager.model_config.vocab_size
    if input_ids:
        _check_ids(input_ids, vocabulary)
    if hasattr(obj, "logprob_start_len"):  # a request to generate
        of_pair = manager.server_args.disaggregation_mode != "null"
        _check_logprobs(obj, min(vocabulary, MOST_LOGPROBS) if of_pair else vocabulary)
        if of_pair and getattr(obj, "return_sampling_mask", False):
            raise ValueError("`return_sampling_mask` is not available on prefill/decode servers; leave it out.")
        _check_sampling(obj.sampling_params or {}, manager.sampling_params_class)


def _check_ids(ids: Any, vocabulary: int) -> None:
    try:
        outside = next((each for each in (min(ids), max(ids)) if not 0 <= each < vocabulary), None)
    except TypeError:
        raise ValueError("`input_ids` must be a list of integers.") from None
    if outside is not None:
        raise ValueError(f"token ids must be from 0 to {vocabulary - 1}, got {outside}.")


def _check_logprobs(obj: Any, limit: int) -> None:
    most = obj.top_logprobs_num
    if most is not None and not (_is_integer(most) and 0 <= most <= limit):
        raise ValueError(f"`top_logprobs_num` must be an integer from 0 to {limit}, got {most}.")
    start = obj.logprob_start_len
    if start is not None and not (_is_integer(start) and start >= -1):
        raise ValueError(f"`logprob_start_len` must be -1, for none of the prompt, or an index into it, got {start}.")


def _check_sampling(params: dict[str, Any], kind: type) -> None:
    types = _types(kind)
    for name, value in params.items():
        if name not in types:
            raise ValueError(f"`sampling_params` knows no {name!r}.")
        if value is not None and name not in LEFT_TO_UPSTREAM:
            _check_type(name, value, types[name])
    for name, low, high in (("top_k", -INT32, INT32), ("sampling_seed", -INT64, INT64)):
        if not low <= (params.get(name) or 0) <= high:
            raise ValueError(f"`{name}` must be from {low} to {high}, got {params[name]}.")
    for token, value in (params.get("logit_bias") or {}).items():
        if not math.isfinite(value):
            raise ValueError(f"`logit_bias` must give each token a finite number, got {value} for {token}.")
    patterns = params.get("stop_regex") or []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"`stop_regex` holds {pattern!r}, which is no regular expression: {error}.") from None


@cache
def _types(kind: type) -> dict[str, Any]:
    return {each.name: each.type for each in msgspec.structs.fields(kind)}


def _check_type(name: str, value: Any, wanted: Any) -> None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON does not tell 1 from 1.0
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        raise ValueError(f"`{name}` does not fit: {error}.") from None


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
