"""One attempt of a request on a pair, and what it says about the two workers."""

from types import TracebackType
from typing import Self

from router.errors import NoWorker, RouterError, UpstreamFailed, UpstreamTimeout
from router.exchange import Exchange
from router.workers import Pair, Worker


class Attempt:
    """Both legs or none: entering raises `NoWorker` when a breaker of the pair lets nothing through.

    A leg that broke, and an answer from 500 on, is its worker's failure. A request that the client
    gave up, or that was refused with less than 500, says nothing against anybody.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._tickets: tuple[int, int]
        self.exchange: Exchange

    def __enter__(self) -> Self:
        pair = self._pair
        check_breakers((pair.prefill, pair.decode))
        self._tickets = pair.prefill.breaker.begin(), pair.decode.breaker.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        prefill: bool | None = None
        decode: bool | None = None
        if error is None:
            decode = self.exchange.decode.status < 500
            prefill = True if decode else None
        elif isinstance(error, UpstreamFailed | UpstreamTimeout):
            blamed = False if (error.upstream_status or 500) >= 500 else None
            if self.exchange.failed_in_prefill(error):
                prefill, error.worker = blamed, self._pair.prefill
            else:
                decode, error.worker = blamed, self._pair.decode
        self._pair.prefill.breaker.settle(self._tickets[0], prefill)
        self._pair.decode.breaker.settle(self._tickets[1], decode)


def check_breakers(workers: tuple[Worker, ...] | list[Worker]) -> None:
    """Raise `NoWorker` when one of them may get no request now."""
    for worker in workers:
        if not worker.breaker.allows():
            wait = worker.breaker.retry_after
            raise NoWorker(
                f"the {worker.role} server {worker.url} failed too often; it is tried again in {wait:.0f} s.",
                retry_after=wait,
            )


def let_through(workers: list[Worker]) -> list[Worker]:
    """Those whose breakers let a request through; raises `NoWorker` when none does."""
    found = [worker for worker in workers if worker.breaker.allows()]
    if not found:
        check_breakers([min(workers, key=lambda worker: worker.breaker.retry_after)])
    return found


def retryable(error: RouterError) -> bool:
    """Whether another attempt may end better: the worker failed, rather than refused."""
    if isinstance(error, UpstreamFailed) and error.upstream_status is not None:
        return error.upstream_status in RETRYABLE
    return isinstance(error, UpstreamFailed | UpstreamTimeout)


RETRYABLE = frozenset({408, 429, 500, 502, 503, 504})
