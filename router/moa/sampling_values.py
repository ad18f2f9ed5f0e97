"""Checks the values of sampling fields, by OpenAI's names, before any agent runs; the bounds are SGLang's."""

import math
from collections.abc import Mapping
from typing import Any

from router.errors import BadRequest
from router.request_checks.sampling_bounds import check_sampling

MAX_STOPS = 64  # stop strings, stop patterns or stop tokens of one request
MAX_BIASES = 4096  # tokens of one `logit_bias`
# Lowest and highest value, and whether the lowest is allowed; SGLang's `SamplingParams.verify` has the same.
_RANGES: dict[str, tuple[float, float, bool]] = {
    "temperature": (0, math.inf, True),
    "top_p": (0, 1, False),
    "min_p": (0, 1, True),
    "frequency_penalty": (-2, 2, True),
    "presence_penalty": (-2, 2, True),
    "repetition_penalty": (0, 2, False),
}
_INTEGERS = {"max_tokens": 1, "max_completion_tokens": 1, "min_tokens": 0, "top_k": -1, "seed": -(2**63)}
_BOOLEANS = ("ignore_eos", "skip_special_tokens", "no_stop_trim")


def check_sampling_values(fields: Mapping[str, Any], path: str) -> None:
    """Check the sampling fields of a request's body; `path` is the API's.

    Raises:
        BadRequest: A value is not one that SGLang takes, or one that ends a server; the sentence names the field.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    for name, (low, high, inclusive) in _RANGES.items():
        _check_number(given.get(name), name, low, high, inclusive=inclusive)
    for name, minimum in _INTEGERS.items():
        if name in given and (type(given[name]) is not int or given[name] < minimum):
            raise BadRequest(f"`{name}` must be an integer from {minimum} up.")
    for name in _BOOLEANS:
        if not isinstance(given.get(name, False), bool):
            raise BadRequest(f"`{name}` must be true or false.")
    for name in ("stop", "stop_regex"):
        _check_texts(given.get(name, []), name)
    tokens = given.get("stop_token_ids", [])
    if not isinstance(tokens, list) or len(tokens) > MAX_STOPS or not all(type(token) is int for token in tokens):
        raise BadRequest(f"`stop_token_ids` must be a list of up to {MAX_STOPS} token ids.")
    _check_bias(given.get("logit_bias", {}))
    most = given.get("max_completion_tokens", given.get("max_tokens", math.inf))
    if given.get("min_tokens", 0) > most:
        raise BadRequest(f"`min_tokens` must be at most `max_tokens`, which is {most}.")
    check_sampling(fields, path)


def _check_number(value: Any, name: str, low: float, high: float, *, inclusive: bool) -> None:
    if value is None:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or value == math.inf or (value == low and not inclusive):
        least = f"from {low:g}" if inclusive else f"above {low:g}"
        most = f" to {high:g}" if high < math.inf else ""
        raise BadRequest(f"`{name}` must be a finite number {least}{most}, got {str(value)[:40]}.")


def _check_texts(value: Any, name: str) -> None:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or len(texts) > MAX_STOPS or not all(isinstance(text, str) for text in texts):
        raise BadRequest(f"`{name}` must be text, or a list of up to {MAX_STOPS} texts.")


def _check_bias(bias: Any) -> None:
    if not isinstance(bias, dict) or len(bias) > MAX_BIASES:
        raise BadRequest(f"`logit_bias` must be an object of up to {MAX_BIASES} token ids with numbers.")
    for token, value in bias.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise BadRequest(f"`logit_bias` must have a number for {str(token)[:40]}.")
