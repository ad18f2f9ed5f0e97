"""Request fields for a pair: those the router adds (bootstrap address, room, request id) and those it refuses."""

from collections.abc import Mapping
from typing import Any

from router.dispatch.hint_fields import hint_fields
from router.dispatch.request_ids import ids_of_prompts
from router.dispatch.sample_count import read_samples
from router.dispatch.sampling_bounds import check_sampling
from router.dispatch.sampling_params import sampling_params
from router.errors import BadRequest
from router.http.ids import new_bootstrap_room
from router.workers.worker import Pair

# Fields that only a router may set: with a bootstrap host of its own, a client could make the servers connect to any
# address, or start a prefill whose KV nobody fetches.
RESERVED_FIELDS = ("bootstrap_host", "bootstrap_port", "bootstrap_room", "bootstrap_pair_key")
# Fields that break an SGLang 0.5.17 server of a pair; one request with one of the first two ends the process.
HARMFUL_FIELDS = {
    "session_params": "prefill/decode servers have no sessions; send the whole prompt",
    "positional_embed_overrides": "no JSON can say them; send the prompt as text or token ids",
    "disagg_prefill_dp_rank": "the servers find each other by themselves",
}
MAX_BATCH = 10_000  # prompts of one request
# Where SGLang reads the prompts from: the first of these fields that is present. The router's fields must be lists
# exactly if SGLang sees a batch there, or the request fails.
PROMPT_FIELDS = {"/generate": ("text", "input_ids"), "/v1/completions": ("prompt",)}


def router_fields(fields: Mapping[str, Any], pair: Pair, path: str, *, is_checked: bool = False) -> dict[str, Any]:
    """The fields the router adds to a body with `fields`: bootstrap address, a new bootstrap room, a request id.

    And what hints of the client add (`hint_fields`).

    A batch gets lists with one room and one id for each prompt. A client's `rid` becomes a prefix of the id sent.
    `is_checked` tells that another sample of the same request was checked.

    Raises:
        BadRequest: As of `check_sampling`; the batch is too long; `rid` is not a string; a field is in
            `HARMFUL_FIELDS`; `n` is not 1, above which SGLang 0.5.17 uses one room for all samples and fails.
    """
    if not is_checked:
        _check(fields, pair, path)
    size = batch_size(fields, path)
    host, port = pair.prefill.origin.host, pair.prefill.bootstrap_port
    rid = ids_of_prompts(fields.get("rid"), size)
    hinted = hint_fields(fields, (pair.prefill, pair.decode))
    if size is None:
        room = new_bootstrap_room()
        return {"bootstrap_host": host, "bootstrap_port": port, "bootstrap_room": room, "rid": rid, **hinted}
    rooms = [new_bootstrap_room() for _ in range(size)]
    return {
        "bootstrap_host": [host] * size,
        "bootstrap_port": [port] * size,
        "bootstrap_room": rooms,
        "rid": rid,
        **hinted,
    }


def _check(fields: Mapping[str, Any], pair: Pair, path: str) -> None:
    """Raise `BadRequest` as `router_fields`, but for `rid`."""
    refuse_harmful(fields)
    check_sampling(fields, path, stock=not (pair.prefill.report.overlay and pair.decode.report.overlay))
    _check_samples(fields)
    size = batch_size(fields, path)
    if size is not None and size > MAX_BATCH:
        raise BadRequest(f"the batch has {size} prompts, and {MAX_BATCH} is the most; send several requests.")


def refuse_harmful(fields: Mapping[str, Any]) -> None:
    """Raise `BadRequest` for a field in `HARMFUL_FIELDS`."""
    for name, reason in HARMFUL_FIELDS.items():
        if fields.get(name) is not None:
            raise BadRequest(f"`{name}` is not taken here: {reason}.")


def pair_body(fields: Mapping[str, Any], pair: Pair, path: str) -> dict[str, Any]:
    """The body for both servers, with the router's fields in place of reserved ones; raises as `router_fields`."""
    return {key: value for key, value in fields.items() if key not in RESERVED_FIELDS} | router_fields(
        fields, pair, path
    )


def _check_samples(fields: Mapping[str, Any]) -> None:
    """Raise `BadRequest` if `n` is not 1."""
    for params in sampling_params(fields):
        if "n" in params and (n := read_samples(params, may_be_null=params is fields)) != 1:
            raise BadRequest(f"`n` is {n}, but this request is for one sample; send {n} requests.")


def batch_size(body: Mapping[str, Any], path: str) -> int | None:
    """Number of prompts in a batched request; None if the request is not a batch."""
    for key in PROMPT_FIELDS.get(path, ()):
        if (prompt := body.get(key)) is not None:
            return len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list) else None
    return None
