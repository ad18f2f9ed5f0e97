"""The worker that a client names by its number, in the header `x-smg-target-worker`."""

from collections.abc import Collection, Sequence

from router.errors import BadRequest, NoWorker
from router.workers.worker import Worker


def target_worker(workers: Sequence[Worker], usable: Collection[Worker], number: str) -> Worker:
    """The worker with this number.

    Args:
        workers: All workers of the model and role, in the order of `/workers`; their numbers are from 0 on.
        usable: Those of them that may get a request.
        number: What the client sent in `x-smg-target-worker`.

    Raises:
        BadRequest: There is no worker of this number.
        NoWorker: It may get no request now.
    """
    role = workers[0].role
    if not (number.isascii() and number.isdecimal() and len(number) < 10 and int(number) < len(workers)):
        known = f"the model has {len(workers)} {role} servers, with numbers from 0 on"
        raise BadRequest(f"the header x-smg-target-worker names no worker: {known}.")
    worker = workers[int(number)]
    if worker not in usable:
        raise NoWorker(
            f"the {role} server {number} of x-smg-target-worker takes no requests now; try again later, or another.",
            retry_after=1.0,
        )
    return worker
