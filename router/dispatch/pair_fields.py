"""The fields that this router adds to a request for a pair, and the fields that it refuses."""

from collections.abc import Mapping
from typing import Any

from router.errors import BadRequest
from router.http.ids import new_bootstrap_room, new_id
from router.workers.worker import Pair

# Fields only a router may set: a client that could name a bootstrap host could point the servers
# at any address, or start a prefill that nobody fetches.
RESERVED_FIELDS = ("bootstrap_host", "bootstrap_port", "bootstrap_room", "bootstrap_pair_key")
# Fields that make a server of a pair fail, in SGLang 0.5.17: of the first two, one request ends the process.
HARMFUL_FIELDS = {
    "session_params": "prefill/decode servers have no sessions; send the whole prompt",
    "positional_embed_overrides": "no JSON can say them; send the prompt as text or token ids",
    "disagg_prefill_dp_rank": "the servers find each other by themselves",
}
# Where SGLang takes the prompts from: the first that is given; of other fields it knows nothing. A request that is
# single there must have no lists of ours, which it fails on as if it were itself broken.
PROMPT_FIELDS = {"/generate": ("text", "input_ids"), "/v1/completions": ("prompt",)}


def router_fields(fields: Mapping[str, Any], pair: Pair, path: str) -> dict[str, Any]:
    """What this router adds to a body with these fields for a path: where the servers meet, a fresh room, a request id.

    A batch gets lists, one room and one id for each of its prompts. A client's own `rid` becomes the
    beginning of the one sent: SGLang aborts every request whose id begins with the one to abort, so
    an id that a client chose could end its neighbours' requests.

    Raises:
        BadRequest: `rid` is not text; a field is in `HARMFUL_FIELDS`; `n` is no number, or over 1, for which SGLang 0.5.17
            uses one room for all samples and fails.
    """
    for name in HARMFUL_FIELDS.keys() & fields.keys():
        if fields[name] is not None:
            raise BadRequest(f"`{name}` is not taken here: {HARMFUL_FIELDS[name]}.")
    _check_samples(fields)
    size = batch_size(fields, path)
    host, port = pair.prefill.origin.host, pair.prefill.bootstrap_port
    rid = _request_ids(fields.get("rid"), size)
    if size is None:
        return {"bootstrap_host": host, "bootstrap_port": port, "bootstrap_room": new_bootstrap_room(), "rid": rid}
    rooms = [new_bootstrap_room() for _ in range(size)]
    return {"bootstrap_host": [host] * size, "bootstrap_port": [port] * size, "bootstrap_room": rooms, "rid": rid}


def pair_body(fields: Mapping[str, Any], pair: Pair, path: str) -> dict[str, Any]:
    """The body both servers get: reserved fields replaced; raises as `router_fields`."""
    return {key: value for key, value in fields.items() if key not in RESERVED_FIELDS} | router_fields(
        fields, pair, path
    )


def _check_samples(fields: Mapping[str, Any]) -> None:
    """Raise `BadRequest` for a request of several samples, or of no number of them."""
    sampling = fields.get("sampling_params")
    for each in (fields, *(sampling if isinstance(sampling, list) else (sampling,))):
        if not isinstance(each, dict) or (n := each.get("n")) is None:
            continue
        try:
            number = float(n)  # as SGLang reads it, which takes "2" and 2.0 for 2
        except (TypeError, ValueError, OverflowError):
            raise BadRequest("`n` must be 1.") from None
        if number > 1:
            raise BadRequest(
                f"`n` is {number:g}, but prefill/decode servers give one sample a request; send {number:g} requests."
            )


def _request_ids(given: Any, size: int | None) -> str | list[str]:
    """Ids none of which another one begins with."""
    if given is None and size is None:
        return new_id()
    wanted = given if isinstance(given, list) else [given or ""] * (size or 1)
    if len(wanted) != (size or 1) or not all(isinstance(rid, str) for rid in wanted):
        raise BadRequest("`rid` must be a string, or a list of one string for each prompt.")
    ids = [f"{rid}-{new_id()}" if rid else new_id() for rid in wanted]
    return ids[0] if size is None else ids


def batch_size(body: Mapping[str, Any], path: str) -> int | None:
    """How many prompts a batched request has; None when it is a single one."""
    for key in PROMPT_FIELDS.get(path, ()):
        if (given := body.get(key)) is not None:
            return len(given) if isinstance(given, list) and given and isinstance(given[0], str | list) else None
    return None
