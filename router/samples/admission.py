"""What a request for several samples counts for, in limits and on a decode server."""

from router.errors import BadRequest
from router.forwarding.forwarder import RoutedRequest
from router.http.client_request import ClientRequest
from router.request_checks.batches import MAX_BATCH, batch_size
from router.request_checks.sample_count import sample_count


async def admit_samples(request: ClientRequest, routed: RoutedRequest) -> None:
    """Let a request count as one for each sample that runs at once, and its body as often; waits for room.

    Raises:
        BadRequest: As of `sample_count`, or there are too many samples of all prompts.
        TimedOutInQueue: There was no room in time.
        TooLarge, Overloaded: The body is too long for so many samples, or for so many now.
    """
    count = sample_count(routed.body.fields, routed.path)
    if count == 1:
        return
    prompts = batch_size(routed.body.fields, routed.path) or 1
    if prompts * count > MAX_BATCH:
        raise BadRequest(
            f"{prompts} prompts with `n` {count} are {prompts * count} answers, and {MAX_BATCH} is the most; "
            "send several requests."
        )
    count = samples_at_once(request, count)
    await request.admission.reweigh(count)
    request.count_copies(count)


def places_of(request: ClientRequest, routed: RoutedRequest) -> int:
    """The places that a request takes on a decode server: one for each answer that is generated at once."""
    prompts = batch_size(routed.body.fields, routed.path) or 1
    return prompts * samples_at_once(request, sample_count(routed.body.fields, routed.path))


def samples_at_once(request: ClientRequest, count: int) -> int:
    """How many of `count` samples of a request run at once: a limit may never have room for all of them."""
    return min(count, request.admission.max_weight or count)
