"""How many requests are on each worker, those of other routers included.

What a server reported is some seconds old. Of that only the part counts that others had sent; what this router has in
flight it knows itself, at any moment. So requests that it sent or saw ending since the report are counted right.
"""

from collections.abc import Sequence

from router.workers.worker import Worker


def requests_on(workers: Sequence[Worker]) -> list[float]:
    """The estimated requests on each worker.

    Where a server reports nothing, others are taken to have sent it as much as they sent the average of those that do:
    it shall neither draw all requests nor get none. Where none reports, these are this router's own requests.
    """
    of_others = [_of_others(worker) for worker in workers]
    known = [count for count in of_others if count is not None]
    if not known:
        return [worker.load.in_flight for worker in workers]
    average = sum(known) / len(known)
    return [
        worker.load.in_flight + (average if count is None else count)
        for worker, count in zip(workers, of_others, strict=True)
    ]


def _of_others(worker: Worker) -> int | None:
    """The requests on a worker that are not this router's, when it reported last; None if it reports nothing."""
    report = worker.server_load
    return None if report is None else max(report.requests - report.own_requests, 0)
