"""Request fields for a plain server: those that the router adds."""

from typing import Any

from router.dispatch.hint_fields import hint_fields
from router.dispatch.rank_fields import rank_fields
from router.dispatch.request_ids import ids_of_prompts, unique_ids
from router.forwarding.forwarder import RoutedRequest
from router.request_checks.batches import GENERATION_PATHS, OWN_PATHS, batch_size
from router.request_checks.refused_fields import refuse_labels
from router.request_checks.sampling_params import sampling_params
from router.workers.worker import Worker

WITH_PRIORITY = GENERATION_PATHS | {"/v1/responses"}


def plain_fields(routed: RoutedRequest, worker: Worker) -> dict[str, Any]:
    """The fields that a body gets for a server: the model's name there, request ids, and what hints add.

    A client's `rid` is made unique. Without one, SGLang servers get an id too, so that requests can be aborted; so do,
    on `/generate`, servers of unknown kind (`Worker.wants_key`). Others get only ids that the client sent.

    Raises:
        BadRequest: The client's `rid` is none; or as of `rank_fields` and `refuse_labels`.
    """
    fields = routed.body.fields
    if routed.path in OWN_PATHS and worker.report.overlay is None:
        refuse_labels(fields)
    name = worker.served.own_name_of(routed.model)
    names_model = routed.path == "/generate" or fields.get("model") == name
    added: dict[str, Any] = {} if names_model else {"model": name}
    added |= rank_fields(fields, worker)
    if routed.path in WITH_PRIORITY:
        added |= hint_fields(fields, (worker,))
    rid = fields.get("rid")
    if rid is not None:
        own = routed.path in OWN_PATHS
        added["rid"] = ids_of_prompts(rid, batch_size(fields, routed.path)) if own else unique_ids(rid)
    elif _takes_ids(routed.path, worker) and not _has_samples(fields):
        added["rid"] = ids_of_prompts(None, batch_size(fields, routed.path))
    return added


def _takes_ids(path: str, worker: Worker) -> bool:
    return path in GENERATION_PATHS and (
        worker.capability == "sglang" or (worker.health.wants_key and path == "/generate")
    )


def _has_samples(fields: dict[str, Any]) -> bool:
    """Whether a prompt gets several answers, for which SGLang makes the ids."""
    return any("n" in params and params["n"] not in (None, 1) for params in sampling_params(fields))
