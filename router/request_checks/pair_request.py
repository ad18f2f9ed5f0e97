"""All checks of a request before it is sent to a pair."""

from collections.abc import Mapping
from typing import Any

from router.request_checks.batches import check_batch
from router.request_checks.refused_fields import refuse_harmful, refuse_labels
from router.request_checks.sample_count import check_one_sample
from router.request_checks.sampling_bounds import check_sampling


def check_pair_request(fields: Mapping[str, Any], path: str, *, stock: bool) -> None:
    """Check the fields of a request for `path`. `stock` is True if one of the servers lacks the overlay.

    Raises:
        BadRequest: A field is in `HARMFUL_FIELDS`, has labels that a stock server may not know, or would end a server;
            the batch is too long; `n` is not 1: SGLang 0.5.17 would use one bootstrap room for all samples, and fail.
    """
    refuse_harmful(fields)
    if stock and path == "/generate":
        refuse_labels(fields)
    check_sampling(fields, path, stock=stock)
    check_one_sample(fields)
    check_batch(fields, path)
