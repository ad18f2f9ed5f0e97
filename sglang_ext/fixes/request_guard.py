"""Rejects requests that would end a server, or would be answered with 500.

SGLang 0.5.17 checks most values of a request. A few pass the checks and fail inside a batch: the scheduler
raises, and the server ends with every client's request. Others are answered with 500, so that a router
retries elsewhere and stops using servers that work.
"""

import math
import re
from functools import cache
from typing import Any, TypeGuard

import msgspec

from sglang_ext.upstream.request import HttpRequest
from sglang_ext.upstream.scheduler import TokenizerManager

INT32, INT64 = 2**31 - 1, 2**63 - 1
NOT_CHECKED = {"custom_params", "json_schema", "structural_tag"}  # SGLang accepts more than their types say
MAX_PAIR_LOGPROBS = 128  # for each token: a prefill server has no room to pass more to its decode server


def reject_harmful_values(manager: TokenizerManager, obj: HttpRequest, input_ids: list[int] | None) -> None:
    """BEFORE `TokenizerManager._validate_one_request`: a `ValueError` is answered with 400.

    `obj` may also be an `EmbeddingReqInput`, of which only the token ids are checked.
    """
    vocabulary = manager.model_config.vocab_size
    if input_ids:
        _check_ids(input_ids, vocabulary)
    if hasattr(obj, "logprob_start_len"):
        of_pair = manager.server_args.disaggregation_mode != "null"
        _check_logprobs(obj, min(vocabulary, MAX_PAIR_LOGPROBS) if of_pair else vocabulary)
        if of_pair and getattr(obj, "return_sampling_mask", False):
            raise ValueError("`return_sampling_mask` is not available on prefill/decode servers; leave it out.")
        _check_sampling(obj.sampling_params or {}, manager.sampling_params_class)


def _check_ids(ids: list[int], vocabulary: int) -> None:
    try:
        outside = next((each for each in (min(ids), max(ids)) if not 0 <= each < vocabulary), None)
    except TypeError:
        raise ValueError("`input_ids` must be a list of integers.") from None
    if outside is not None:
        raise ValueError(f"token ids must be from 0 to {vocabulary - 1}, got {outside}.")


def _check_logprobs(obj: HttpRequest, limit: int) -> None:
    count = obj.top_logprobs_num
    if count is not None and not (_is_integer(count) and 0 <= count <= limit):
        raise ValueError(f"`top_logprobs_num` must be an integer from 0 to {limit}, got {count}.")
    start = obj.logprob_start_len
    if start is not None and not (_is_integer(start) and start >= -1):
        raise ValueError(f"`logprob_start_len` must be -1, for none of the prompt, or an index into it, got {start}.")


def _check_sampling(params: dict[str, Any], params_class: type) -> None:
    types = _field_types(params_class)
    for name, value in params.items():
        if name not in types:
            raise ValueError(f"`sampling_params` knows no {name!r}.")
        if value is not None and name not in NOT_CHECKED:
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
def _field_types(params_class: type) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(params_class)}


def _check_type(name: str, value: object, expected: object) -> None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # clients may write 1 as 1.0 in JSON
    try:
        msgspec.convert(value, expected)
    except msgspec.ValidationError as error:
        raise ValueError(f"`{name}` does not fit: {error}.") from None


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
