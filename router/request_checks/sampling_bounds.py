"""Refuses values of sampling fields that would end an SGLang 0.5.17 server, and so the requests of all its clients.

A server with the overlay refuses them itself, and knows its vocabulary; a stock one does not.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from router.errors import BadRequest
from router.request_checks.batches import OWN_PATHS, check_values_of_prompts
from router.request_checks.empty_grammars import GRAMMAR_FIELDS, check_grammars, has_grammar

# Logits are divided by the temperature, which is at least 1e-6, in float32, which ends at 3e38.
MAX_BIAS = 1e6
MIN_REPETITION_PENALTY = 0.01
MAX_TEMPERATURE = 1e6
MAX_TOKEN_ID = 2**24 - 1  # no vocabulary comes near it; a server with the overlay knows its own
INT32, INT64 = 2**31 - 1, 2**63 - 1
# Names in OpenAI's API and in SGLang's own, with the range of each.
_INTEGERS = {
    "max_tokens": (1, INT32),
    "max_completion_tokens": (1, INT32),
    "max_new_tokens": (0, INT32),
    "min_tokens": (0, INT32),
    "min_new_tokens": (0, INT32),
    "seed": (-INT64, INT64),
    "sampling_seed": (-INT64, INT64),
    "stream_interval": (1, INT32),
    "priority": (-INT32, INT32),
}
_RANGES = {"temperature": (0, MAX_TEMPERATURE), "repetition_penalty": (MIN_REPETITION_PENALTY, math.inf)}


def check_sampling(fields: Mapping[str, Any], path: str, *, stock: bool = False) -> None:
    """Check a body's sampling fields for `path`: in `sampling_params` and, but for `/generate`, at the top.

    Values that are only wrong are left to the server, whose message is better. `stock` is True for a server without the
    overlay, which also ends where a grammar allows only the end of the answer and `min_tokens` forbids it.

    Raises:
        BadRequest: A value would end a server; the sentence names the field.
    """
    if "priority" in fields:
        _check_integer("priority", fields["priority"])
    if path != "/generate":
        _check_echo(fields, path)
        _check_params(fields, stock=stock)
    if path in OWN_PATHS:
        check_values_of_prompts(fields, path)
    given = fields.get("sampling_params")
    for params in given if isinstance(given, list) else [given]:
        if isinstance(params, dict):
            _check_params(params, stock=stock)


def _check_echo(fields: Mapping[str, Any], path: str) -> None:
    if path != "/v1/completions":
        return
    if fields.get("echo") and _number(fields.get("logprobs")) == 0:
        raise BadRequest("`logprobs` must be at least 1 with `echo`; ignore the likeliest tokens if you need none.")
    if _number(fields.get("max_tokens")) == 0:
        raise BadRequest(
            "`max_tokens` must be at least 1; to score a prompt, send `echo` with `logprobs` and `max_tokens` 1, and "
            "leave out the last token."
        )


def _check_params(params: Mapping[str, Any], *, stock: bool) -> None:
    for name in _CHECKS.keys() & params.keys():
        _CHECKS[name](name, params[name])
    if not GRAMMAR_FIELDS.isdisjoint(params):
        check_grammars(params)
        least = [name for name in ("min_tokens", "min_new_tokens") if _number(params.get(name))]
        if stock and least and has_grammar(params):
            raise BadRequest(f"`{least[0]}` and a grammar cannot be used together here: the grammar may end before.")


def _check_top_k(name: str, value: Any) -> None:
    top_k = _number(value)
    if top_k is not None and top_k != -1 and not 1 <= top_k <= INT32:
        raise BadRequest(f"`{name}` must be from 1 to {INT32}, or -1 for all tokens, got {top_k:g}.")


def _check_stop_ids(name: str, value: Any) -> None:
    if isinstance(value, list):
        _check_token_ids(name, value)


def _check_bias(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        return
    _check_token_ids(name, value)
    for token, bias in value.items():
        number = _number(bias)
        if number is not None and not -MAX_BIAS <= number <= MAX_BIAS:
            raise BadRequest(f"`{name}` must be from {-MAX_BIAS:g} to {MAX_BIAS:g}, got {bias} for {token}.")


def _check_token_ids(name: str, ids: Iterable[Any]) -> None:
    for each in ids:
        number = _number(each)
        if number is None or not 0 <= number <= MAX_TOKEN_ID or not number.is_integer():
            raise BadRequest(f"`{name}` must have token ids of the model's vocabulary, got {str(each)[:40]}.")


def _check_integer(name: str, value: Any) -> None:
    low, high = _INTEGERS[name]
    if type(value) is int and low <= value <= high:
        return
    number = _number(value)
    if number is not None and not low <= number <= high:
        raise BadRequest(f"`{name}` must be from {low} to {high}, got {str(value)[:40]}.")


def _check_range(name: str, value: Any) -> None:
    low, high = _RANGES[name]
    if type(value) is float and low <= value <= high:
        return
    number = _number(value)
    if number is not None and not low <= number <= high:
        limit = f"from {low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
        raise BadRequest(f"`{name}` must be {limit}, got {str(value)[:40]}.")


def _number(value: Any) -> float | None:
    """A number, also one in a string, as SGLang reads it; None for what is none. An infinite or NaN one is kept."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:
        return math.inf


_CHECKS: dict[str, Callable[[str, Any], None]] = {  # of each field that is not a grammar
    **dict.fromkeys(_INTEGERS, _check_integer),
    **dict.fromkeys(_RANGES, _check_range),
    "top_k": _check_top_k,
    "stop_token_ids": _check_stop_ids,
    "logit_bias": _check_bias,
}
