"""One attempt of a request on a pair, and what it says about the two workers."""

from router.dispatch.exchange import Exchange
from router.errors import NoWorker, RouterError, UpstreamFailed, UpstreamTimeout
from router.workers.worker import Pair, Worker


class Attempt:
    """Both legs or none.

    A leg that broke, and an answer from 500 on, is its worker's failure. A request that the client
    gave up, or that was refused with less than 500, says nothing against anybody.

    Attributes:
        exchange: The two legs, once it has begun.
        failed_worker: The worker whose failure ended it; None where none did.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._tickets: tuple[int, int]
        self.exchange: Exchange
        self.failed_worker: Worker | None = None

    def begin(self) -> None:
        """Take both breakers' tickets; raises `NoWorker` when one lets nothing through."""
        pair = self._pair
        check_breakers((pair.prefill, pair.decode))
        self._tickets = pair.prefill.breaker.begin_request(), pair.decode.breaker.begin_request()

    def give_up(self) -> None:
        """It came to nothing before anything was sent."""
        self._settle(None, None)

    def settle(self, error: BaseException | None) -> None:
        """The exchange is over, by an error or without."""
        prefill: bool | None = None
        decode: bool | None = None
        if isinstance(error, UpstreamFailed | UpstreamTimeout):
            by_prefill = error is self.exchange.prefill_problem()
            self.failed_worker = self._pair.prefill if by_prefill else self._pair.decode
            if _broke(error):
                prefill, decode = (False, None) if by_prefill else (None, False)
        elif error is None and self.exchange.decode.status < 500:
            prefill = decode = True
        elif error is None:
            prefill, decode = (None, False) if failed_worker_of(self.exchange) is self._pair.decode else (False, None)
        self._settle(prefill, decode)
        self.exchange.spans.exchange_ended(
            error, finished=self.exchange.finished, prefill_failed=self.failed_worker is self._pair.prefill
        )

    def _settle(self, prefill: bool | None, decode: bool | None) -> None:
        self._pair.prefill.breaker.record_outcome(self._tickets[0], prefill)
        self._pair.decode.breaker.record_outcome(self._tickets[1], decode)


def failed_worker_of(exchange: Exchange) -> Worker:
    """The worker to avoid after decode answered with an error: prefill's breaking may be its cause."""
    return exchange.pair.prefill if _broke(exchange.prefill_problem()) else exchange.pair.decode


def _broke(error: BaseException | None) -> bool:
    if not isinstance(error, UpstreamFailed | UpstreamTimeout):
        return False
    return error.upstream_status is None or error.upstream_status >= 500


def check_breakers(workers: tuple[Worker, ...] | list[Worker]) -> None:
    """Raise `NoWorker` when one of them may get no request now."""
    for worker in workers:
        if not worker.breaker.allows():
            wait = worker.breaker.retry_after
            raise NoWorker(
                f"the {worker.role} server {worker.url} failed too often; it is tried again in {wait:.0f} s.",
                retry_after=wait,
            )


def available_workers(workers: list[Worker]) -> list[Worker]:
    """Those whose breakers let a request through; raises `NoWorker` when none does."""
    found = [worker for worker in workers if worker.breaker.allows()]
    if not found:
        check_breakers([min(workers, key=lambda worker: worker.breaker.retry_after)])
    return found


def retryable(error: RouterError) -> bool:
    """Whether another attempt may end better: the worker failed, rather than refused."""
    if isinstance(error, UpstreamFailed) and error.upstream_status is not None:
        return error.upstream_status in RETRYABLE_STATUSES
    return isinstance(error, UpstreamFailed | UpstreamTimeout)


RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
