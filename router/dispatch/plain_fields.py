"""Request fields for a plain server: those that the router adds."""

from typing import Any

from router.dispatch.forwarding import RoutedRequest
from router.dispatch.hint_fields import hint_fields
from router.dispatch.pair_fields import batch_size
from router.dispatch.request_ids import ids_of_prompts, unique_ids
from router.dispatch.sampling_params import sampling_params
from router.workers.worker import Worker

WITH_REQUEST_IDS = frozenset(("/generate", "/v1/chat/completions", "/v1/completions"))  # of SGLang's paths
WITH_PRIORITY = WITH_REQUEST_IDS | {"/v1/responses"}


def plain_fields(routed: RoutedRequest, worker: Worker) -> dict[str, Any]:
    """The fields that a body gets for a server: a model's name, since it may have several, request ids,
    and what hints of the client add.

    A client's `rid` is made unique for every server. SGLang gets one in any case, so that the request can be aborted,
    and so does a server that tells the router nothing, if the path is SGLang's own. Other servers get no fields that a
    client did not send.

    Raises:
        BadRequest: The client's `rid` is none.
    """
    fields = routed.body.fields
    name = worker.served.own_name_of(routed.model)
    names_model = routed.path == "/generate" or fields.get("model") == name
    added: dict[str, Any] = {} if names_model else {"model": name}
    if routed.path in WITH_PRIORITY:
        added |= hint_fields(fields, (worker,))
    rid = fields.get("rid")
    if rid is not None:
        added["rid"] = unique_ids(rid)
    elif _takes_ids(routed.path, worker) and not _has_samples(fields):
        added["rid"] = ids_of_prompts(None, batch_size(fields, routed.path))
    return added


def _takes_ids(path: str, worker: Worker) -> bool:
    return path in WITH_REQUEST_IDS and (
        worker.capability == "sglang" or (worker.health.wants_key and path == "/generate")
    )


def _has_samples(fields: dict[str, Any]) -> bool:
    """Whether a prompt gets several answers, for which SGLang makes the ids."""
    return any(params.get("n") not in (None, 1) for params in sampling_params(fields))
