"""Hints of clients' requests: wrong ones are refused, and the response names those that had no effect."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from router.dispatch.hint_fields import common_rule
from router.hints import Effect, check_hints, given_hints, is_usable, may_have_hints
from router.http.client_request import ClientRequest
from router.workers.worker import Worker

UNUSED_HEADER = b"x-moa-unused-hints"


def take_hints(
    request: ClientRequest, fields: Mapping[str, Any], workers: Sequence[Worker] = (), prefill: Sequence[Worker] = ()
) -> None:
    """Check a request's hints; a header of its response names those without effect.

    Servers that are not SGLang may know hints that are not known here, such as those of another router, so where there
    are only such, bodies go to them unchecked.

    Args:
        request: The request.
        fields: The top-level fields of its body.
        workers: The servers that may make the answer; none for agents of trees and runs, whose requests carry no hints.
        prefill: The prefill servers that may be paired with them.

    Raises:
        BadRequest: A hint is unknown, not taken, or wrong.
    """
    if not may_have_hints(fields, request.header_values):
        return
    passed_on = bool(workers) and all(worker.capability == "openai" for worker in workers)
    if not passed_on:
        check_hints(fields)
    given = [hint for hint in given_hints(fields, request.header_values) if hint.is_header or not passed_on]
    if not given:
        return
    effects_in_use: set[Effect] = {"session", "length"} if workers else set()
    groups: Iterable[tuple[Worker, ...]] = product(prefill, workers) if prefill else [(worker,) for worker in workers]
    if any(hint.effect == "priority" for hint in given) and any(common_rule(group) is not None for group in groups):
        effects_in_use.add("priority")
    unused = [
        hint.name.removesuffix(":")
        for hint in given
        if hint.effect not in effects_in_use or not is_usable(hint, fields, request.header_values)
    ]
    if unused:
        request.extra_headers.append((UNUSED_HEADER, ", ".join(unused).encode()))
