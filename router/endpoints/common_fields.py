"""Checks of fields that mean the same on every generating path, whoever answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from router.errors import BadRequest
from router.request_checks.sampling_params import sampling_params
from router.workers.worker import Worker

IGNORED_FIELDS = frozenset(("best_of", "suffix"))


def check_common_fields(fields: Mapping[str, Any]) -> None:
    """Raise `BadRequest` for an `n` below 1 or a `stream` that is not a boolean: servers would take them for others.

    `n` may also be in `sampling_params`, which is a list for a batch; there it must not be a string.
    """
    for params in sampling_params(fields):
        if (n := params.get("n")) is not None:
            if isinstance(n, str) and params is not fields:
                raise BadRequest("`n` must be 1 or more, as a number.")  # SGLang breaks the connection at a string
            _check_samples(n)
    stream = fields.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("`stream` must be true or false.")


def _check_samples(n: object) -> None:
    """Raise `BadRequest` for a number of samples below 1; as SGLang's OpenAI API, it reads "2" and 2.0 as 2."""
    try:
        too_few = isinstance(n, int | float | str) and float(n) < 1
    except (ValueError, OverflowError):
        return  # not a number, or a large one: whoever answers says what is wrong with it
    if too_few:
        raise BadRequest(f"`n` must be 1 or more, not {str(n)[:20]}.")


def refuse_ignored(fields: Mapping[str, Any], workers: Callable[[], Sequence[Worker]] = tuple) -> None:
    """Raise `BadRequest` for fields of OpenAI's API that would be taken and then ignored.

    SGLang has no `best_of`, and uses `suffix` only with a completion template. What servers that are not SGLang do
    with them is not known, so they get them.

    Args:
        fields: Of the request.
        workers: Finds those that may get the fields as they are; none for an agent, whose prompt the router composes.
    """
    if IGNORED_FIELDS.isdisjoint(fields):
        return
    receivers = workers()
    kinds = {worker.capability for worker in receivers}
    if fields.get("best_of") not in (None, fields.get("n") or 1) and kinds != {"openai"}:
        raise BadRequest("`best_of` is not offered by SGLang, which would ignore it; send the request without it.")
    templates = [worker.capability == "openai" or worker.report.completion_template for worker in receivers]
    if fields.get("suffix") not in (None, "") and not (templates and all(templates)):
        raise BadRequest(
            "`suffix` would be ignored: only servers with --completion-template use it, in /v1/completions; "
            "send the whole prompt instead."
        )
