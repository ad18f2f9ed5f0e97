"""How many answers (samples) a request asks for to each of its prompts: `n`."""

from collections.abc import Mapping
from typing import Any

from router.errors import BadRequest
from router.request_checks.batches import GENERATION_PATHS
from router.request_checks.sampling_params import sampling_params

MAX_SAMPLES = 128  # of one prompt, as OpenAI's API


def sample_count(fields: Mapping[str, Any], path: str) -> int:
    """The number of samples of each prompt that a request for `path` asks for.

    SGLang reads `n` in `sampling_params` of `/generate`, and at the top of OpenAI's bodies. It is 1 if it is missing,
    and for any other path.

    Raises:
        BadRequest: `n` is no whole number from 1 to `MAX_SAMPLES`, stands where SGLang would ignore it, or differs
            between the prompts of a batch.
    """
    if path not in GENERATION_PATHS:
        return 1
    native = path == "/generate"
    counts = set()
    for params in sampling_params(fields):
        count = read_samples(params, may_be_null=params is fields)
        if (params is fields) != native:
            counts.add(count)
        elif count != 1:
            place = "`sampling_params`" if native else "the body itself, not in `sampling_params`"
            raise BadRequest(f"`n` belongs in {place}: elsewhere {path} ignores it.")
    if len(counts) > 1:
        raise BadRequest("`n` must be the same in all of `sampling_params`.")
    return counts.pop() if counts else 1


def read_samples(params: Mapping[str, Any], *, may_be_null: bool) -> int:
    """`n` of these sampling fields. SGLang's OpenAI API reads "2" and 2.0 as 2; its native one breaks at null.

    Raises:
        BadRequest: It is no whole number from 1 to `MAX_SAMPLES`.
    """
    n = params.get("n", 1)
    if type(n) is int and 1 <= n <= MAX_SAMPLES:
        return n
    if n is None and may_be_null:
        return 1
    try:
        number = float(n)
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    if number > MAX_SAMPLES:
        raise BadRequest(f"`n` is {number:g}, and {MAX_SAMPLES} is the most; send several requests.")
    if number < 1 or not number.is_integer():
        raise BadRequest(f"`n` must be a whole number from 1 to {MAX_SAMPLES}, or left out.")
    return int(number)


def check_one_sample(fields: Mapping[str, Any]) -> None:
    """Raise `BadRequest` if `n` is not 1."""
    for params in sampling_params(fields):
        if "n" in params and (n := read_samples(params, may_be_null=params is fields)) != 1:
            raise BadRequest(f"`n` is {n}, but this request is for one sample; send {n} requests.")
