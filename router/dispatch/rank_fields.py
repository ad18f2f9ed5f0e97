"""Fields that send a request to a data-parallel rank of a server."""

from collections.abc import Mapping
from typing import Any

from router.errors import BadRequest
from router.workers.data_parallel import OWN_RANK, PREFILL_RANK, RANK_FIELDS
from router.workers.worker import Pair, Worker


def rank_fields(fields: Mapping[str, Any], worker: Worker) -> dict[str, Any]:
    """The fields for a plain server, or for one server of a pair that is asked alone; none for a whole server.

    Raises:
        BadRequest: The client names a rank itself, where the router chooses it.
    """
    if worker.rank is None:
        return {}
    for name in RANK_FIELDS:
        if fields.get(name) is not None:
            raise BadRequest(f"`{name}` is chosen by this router, which runs with --dp-aware; leave it out.")
    return {OWN_RANK: worker.rank}


def rank_fields_of_pair(fields: Mapping[str, Any], pair: Pair) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields for a pair's prefill and decode server: both are told prefill's rank, from which decode gets the KV.

    Prefill too, since by itself it holds that the bootstrap room says the rank, and refuses a request on another one.

    Raises:
        BadRequest: As of `rank_fields`.
    """
    prefill, decode = rank_fields(fields, pair.prefill), rank_fields(fields, pair.decode)
    shared = {} if pair.prefill.rank is None else {PREFILL_RANK: pair.prefill.rank}
    return prefill | shared, decode | shared
