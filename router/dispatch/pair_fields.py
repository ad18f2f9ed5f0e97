"""The fields that the router adds to a request for a pair: bootstrap address, room, request id, priority."""

from collections.abc import Mapping
from typing import Any

from router.dispatch.hint_fields import hint_fields
from router.dispatch.request_ids import ids_of_prompts
from router.http.ids import new_bootstrap_room
from router.request_checks.batches import batch_size
from router.request_checks.pair_request import check_pair_request
from router.request_checks.refused_fields import RESERVED_FIELDS
from router.workers.worker import Pair


def router_fields(fields: Mapping[str, Any], pair: Pair, path: str, *, is_checked: bool = False) -> dict[str, Any]:
    """The fields that the router adds to a body with `fields`: bootstrap address, a new bootstrap room, a request id,
    and what the client's hints add (`hint_fields`).

    For a batch SGLang needs lists with a value for each prompt. A client's `rid` becomes a prefix of the id sent.
    `is_checked` is True if another sample of the same request was checked.

    Raises:
        BadRequest: As of `check_pair_request`; or `rid` is no id.
    """
    if not is_checked:
        check_pair_request(fields, path, stock=not (pair.prefill.report.overlay and pair.decode.report.overlay))
    size = batch_size(fields, path)
    host, port = pair.prefill.origin.host, pair.prefill.bootstrap_port
    rid = ids_of_prompts(fields.get("rid"), size)
    hinted = hint_fields(fields, (pair.prefill, pair.decode))
    if size is None:
        room = new_bootstrap_room()
        return {"bootstrap_host": host, "bootstrap_port": port, "bootstrap_room": room, "rid": rid, **hinted}
    return {
        "bootstrap_host": [host] * size,
        "bootstrap_port": [port] * size,
        "bootstrap_room": [new_bootstrap_room() for _ in range(size)],
        "rid": rid,
        **hinted,
    }


def pair_body(fields: Mapping[str, Any], pair: Pair, path: str) -> dict[str, Any]:
    """The body for both servers, with the router's fields in place of reserved ones; raises as `router_fields`."""
    return {key: value for key, value in fields.items() if key not in RESERVED_FIELDS} | router_fields(
        fields, pair, path
    )
