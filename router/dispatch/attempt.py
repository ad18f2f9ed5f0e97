"""One attempt of a request on a pair: which worker is at fault when it fails; both circuit breakers learn it."""

from router.dispatch.exchange import Exchange
from router.errors import ConnectFailed, ConnectionLost, UpstreamFailed, UpstreamTimeout
from router.worker_selection.breaker_checks import check_breakers
from router.workers.worker import Pair, Worker


class Attempt:
    """One attempt of a request on a pair, and its outcome for the two circuit breakers.

    A broken leg or a status of 500 or more is a failure of that leg's worker. A status below 500 is no failure, even if
    it refuses the request. A request that the client cancelled counts for neither breaker. Of a timeout
    (`TimeoutError`) the silent server is at fault; while both could be, it counts for both.

    Attributes:
        exchange: The two legs; set by the caller once they are sent.
        failed_worker: The worker whose failure ended the attempt, or None.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._breaker_generations: tuple[int, int]
        self.exchange: Exchange
        self.failed_worker: Worker | None = None

    def begin(self, first: "Attempt | None" = None) -> None:
        """Register the request at both breakers; raises `NoWorker` if one of them lets no request through.

        `first` is the attempt of another sample of the same request. Where it was let through, so is this one: a
        half-open breaker lets only one request through, and would refuse the other samples.
        """
        if first is not None:
            self._breaker_generations = first._breaker_generations
            return
        pair = self._pair
        check_breakers((pair.prefill, pair.decode))
        self._breaker_generations = pair.prefill.breaker.begin_request(), pair.decode.breaker.begin_request()

    def cancel(self) -> None:
        """End an attempt before anything was sent."""
        self._record_outcomes(None, None)

    def finish(self, error: BaseException | None) -> None:
        """Record the outcome of an exchange that is over, ended by `error` or complete."""
        prefill_ok: bool | None = None
        decode_ok: bool | None = None
        if isinstance(error, UpstreamFailed | UpstreamTimeout):
            by_prefill = error is self.exchange.prefill_error
            self.failed_worker = self._pair.prefill if by_prefill else self._pair.decode
            if isinstance(error, ConnectFailed | ConnectionLost):
                self.failed_worker.health.connection_failed(error)
            if _is_worker_failure(error):
                prefill_ok, decode_ok = (False, None) if by_prefill else (None, False)
        elif isinstance(error, TimeoutError):
            self.failed_worker = self._pair.decode
            prefill_ok, decode_ok = self._silent_outcomes()
        elif error is None and self.exchange.decode.status < 500:
            prefill_ok = decode_ok = True
        elif error is None:
            by_decode = failed_worker_of(self.exchange) is self._pair.decode
            prefill_ok, decode_ok = (None, False) if by_decode else (False, None)
        self._record_outcomes(prefill_ok, decode_ok)
        self.exchange.trace.exchange_ended(
            error, finished=self.exchange.finished, prefill_failed=self.failed_worker is self._pair.prefill
        )

    def count_silence(self) -> bool:
        """Count a timeout: after `finish`, the request was cancelled because its time was over.

        Returns:
            Whether it counts as a failure: only if decode's response had not started.
        """
        silent = not self.exchange.decode.status
        if silent:
            self._record_outcomes(*self._silent_outcomes())
        return silent

    def _silent_outcomes(self) -> tuple[bool | None, bool | None]:
        """Of a timeout: until a response starts, each server may be waiting for the other, so both may be at fault."""
        return None if self.exchange.decode_started else False, False

    def _record_outcomes(self, prefill_ok: bool | None, decode_ok: bool | None) -> None:
        self._pair.prefill.breaker.record_outcome(self._breaker_generations[0], prefill_ok)
        self._pair.decode.breaker.record_outcome(self._breaker_generations[1], decode_ok)


def failed_worker_of(exchange: Exchange) -> Worker:
    """The worker at fault after decode responded with an error: prefill if its leg failed, else decode."""
    return exchange.pair.prefill if _is_worker_failure(exchange.prefill_error) else exchange.pair.decode


def _is_worker_failure(error: BaseException | None) -> bool:
    if not isinstance(error, UpstreamFailed | UpstreamTimeout):
        return False
    return error.upstream_status is None or error.upstream_status >= 500
