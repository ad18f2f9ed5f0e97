"""Which workers' circuit breakers let a request through."""

from collections.abc import Sequence

from router.errors import NoWorker
from router.workers.worker import Worker


def check_breakers(workers: Sequence[Worker]) -> None:
    """Raise `NoWorker` if the breaker of one of the workers lets no request through."""
    for worker in workers:
        if not worker.breaker.allows():
            retry_after = worker.breaker.retry_after
            raise NoWorker(
                f"the {worker.role} server {worker.url} failed too often; it is tried again in {retry_after:.0f} s.",
                retry_after=retry_after,
            )


def available_workers(workers: list[Worker]) -> list[Worker]:
    """The workers whose breakers let a request through; raises `NoWorker` if there is none."""
    available = [worker for worker in workers if worker.breaker.allows()]
    if not available:
        check_breakers([min(workers, key=lambda worker: worker.breaker.retry_after)])
    return available
