"""One request on one worker: its load, and the outcome for its circuit breaker."""

from types import TracebackType
from typing import Self

from router.errors import ConnectFailed, ConnectionLost, UpstreamFailed, UpstreamTimeout
from router.worker_selection.breaker_checks import check_breakers
from router.workers.worker import Worker

# As tuples: a union would be made anew for each request.
_BROKEN = ConnectFailed, ConnectionLost
_SILENT = *_BROKEN, UpstreamTimeout, TimeoutError


class WorkerUse:
    """A context manager around the request. Entering it raises `NoWorker` if the breaker lets no request through.

    A broken connection, a timeout (`TimeoutError`, `UpstreamTimeout`) and a status of 500 or more are failures. Another
    status is a success, even if it refuses the request. A request that the client cancelled does not count.

    Args:
        worker: The worker.
        of_engine: False for what the worker's HTTP process answers without its engine. Then only a broken connection
            and a timeout count, as failures.
        model: The model that the request names, for the count of requests; None for the worker's first.

    Attributes:
        worker: The worker.
        status: The HTTP status of its response, set by the caller; 0 before it has started.
        failed: Whether the request ended by the worker's failure.
    """

    def __init__(self, worker: Worker, *, of_engine: bool = True, model: str | None = None) -> None:
        self.worker = worker
        self._model = worker.model if model is None else model
        self._of_engine = of_engine
        self.status = 0
        self.failed = False
        self._breaker_generation = 0

    def __enter__(self) -> Self:
        check_breakers((self.worker,))
        self._breaker_generation = self.worker.breaker.begin_request()
        self.worker.begin_request(self._model)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.worker.load.end()
        if isinstance(error, _BROKEN):
            self.worker.health.connection_failed(error)
        success = self._success(error)
        self.failed = success is False
        self.worker.breaker.record_outcome(self._breaker_generation, success)

    def _success(self, error: BaseException | None) -> bool | None:
        if isinstance(error, _SILENT):
            return False
        if not self._of_engine:
            return None
        if not self.status:
            return False if isinstance(error, UpstreamFailed) else None
        # After a good status, an error is one of the body, or the client's.
        return self.status < 500 if error is None or self.status >= 500 else None

    def on_data(self) -> None:
        """Something of the worker's response has arrived."""
        self.worker.load.hear()

    def count_silence(self) -> None:
        """After the block: the request was cancelled because its time was over before the response started."""
        if not self.status:
            self.worker.breaker.record_outcome(self._breaker_generation, False)
