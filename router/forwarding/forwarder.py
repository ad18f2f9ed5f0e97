"""Forwards clients' requests, with retries, to workers of any kind."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

from router.dispatch.retries import RETRYABLE_STATUSES, RetrySettings, is_retryable
from router.errors import NoWorker, UpstreamFailed, UpstreamTimeout, clear_tracebacks
from router.forwarding.metrics import ForwardingMetrics
from router.http.body import Body
from router.http.client_request import ClientRequest
from router.load_balancing import PolicySettings, RoutingContext, routing_context
from router.worker_selection.restart_queue import RestartQueue, Trial
from router.workers.worker import UNKNOWN_MODEL, Worker


@dataclass(frozen=True, slots=True)
class RoutedRequest:
    """A client request after routing: what to send, and to which model's workers.

    Attributes:
        path: The path on the workers.
        endpoint: The endpoint's name in metrics.
        model: The model that serves it.
        body: The request body, without the router's fields.
        method: The HTTP method; of a GET the body is not sent.
        needs_engine: Whether the server's engine answers, and not its HTTP process alone, as it does with token ids. A
            500 of that process is neither retried nor counted against the server.
        places: The places that it takes on a decode server.
    """

    path: str
    endpoint: str
    model: str
    body: Body
    method: str = "POST"
    needs_engine: bool = True
    places: int = 1

    def retries(self, status: int) -> bool:
        """Whether a response with this status is retried."""
        return status in RETRYABLE_STATUSES and (self.needs_engine or status != HTTPStatus.INTERNAL_SERVER_ERROR)


class ForwardingAttempt(ABC):
    """One attempt of a request, on workers that were chosen for it.

    Attributes:
        workers: The workers, prefill first.
        failed_worker: The worker whose failure ended the attempt; None before its end, and where it is not known.
        generated: Whether a pair has generated something.
    """

    workers: tuple[Worker, ...]
    failed_worker: Worker | None = None
    generated = False

    @abstractmethod
    async def run(self, request: ClientRequest, *, is_last: bool) -> int:
        """Send the request, and the response to the client unless it is to be retried.

        Args:
            request: The client's request.
            is_last: Whether the client gets a response that could be retried too.

        Returns:
            The status of the response.

        Raises:
            RouterError: A worker failed.
        """

    @abstractmethod
    def count_silence(self) -> None:
        """Count a timeout: `run` was cancelled because the request's time was over."""


class AttemptMaker(ABC):
    """Makes the attempts of a request, each on workers that it chooses."""

    @abstractmethod
    async def wait_for_places(self, routed: RoutedRequest) -> None:
        """Return when the workers have room for the request; raises `NoWorker`. Awaited before each attempt."""

    @abstractmethod
    def make(self, routed: RoutedRequest, context: RoutingContext, avoid: Collection[Worker]) -> ForwardingAttempt:
        """An attempt on workers that are not in `avoid`, if there are others; raises `NoWorker`."""


class Forwarder:
    """Forwards client requests.

    Args:
        restarts: Where requests wait for workers that restart.
        retries: Number of attempts, and the backoff between them.
        metrics: Counts attempts.
        key_headers: Headers that may have a request's routing key.
    """

    def __init__(
        self,
        restarts: RestartQueue,
        retries: RetrySettings,
        metrics: ForwardingMetrics,
        key_headers: Sequence[str] = PolicySettings.routing_key_headers,
    ) -> None:
        self._restarts = restarts
        self._retries = retries
        self._metrics = metrics
        self._key_headers = [name.lower().encode() for name in key_headers]

    async def forward(self, request: ClientRequest, routed: RoutedRequest, attempts: AttemptMaker) -> None:
        """Send a request, and the response to its client. Failed attempts are retried until the first byte is sent.

        Raises:
            RouterError: The last attempt failed, or an attempt failed in a way that is not retried.
        """
        context = routing_context(routed.model, routed.body.fields, request.header_values, self._key_headers)
        avoid: set[Worker] = set()
        while True:
            may_try = request.attempts + 1 < self._retries.max_attempts  # a last attempt had no retry
            attempt, trial = await self._next_attempt(attempts, routed, context, avoid, may_try=may_try)
            # A name that no worker is known to serve must not become a metric label.
            label = request.model = routed.model if routed.model in attempt.workers[-1].models else UNKNOWN_MODEL
            request.workers = tuple([worker.url for worker in attempt.workers])
            request.attempts += 1
            attempt.workers[-1].load.expect_tokens(context.expected_tokens)  # there the answer is made
            self._metrics.selected(label, attempt.workers)
            try:
                if not await self._is_to_be_retried(attempt, request, routed):
                    return
            finally:
                attempt.workers[-1].load.expect_tokens(-context.expected_tokens)
                if trial is not None:
                    trial.end(generated=attempt.generated)
            if attempt.failed_worker is not None:
                avoid.add(attempt.failed_worker)
            backoff = self._retries.backoff(request.attempts)
            self._metrics.retried(routed.endpoint, attempt.workers, request.attempts, backoff)
            await asyncio.sleep(backoff)

    async def _is_to_be_retried(
        self, attempt: ForwardingAttempt, request: ClientRequest, routed: RoutedRequest
    ) -> bool:
        """Run an attempt; raises as `forward`.

        Returns:
            Whether it failed and another one is to follow. Else the client has the response.
        """
        is_last = request.attempts >= self._retries.max_attempts
        try:
            status = await attempt.run(request, is_last=is_last)
        except (UpstreamFailed, UpstreamTimeout) as error:
            self._metrics.failed(attempt.failed_worker or attempt.workers[-1], error.kind)
            if request.response_started or not is_retryable(error):
                raise
            if is_last:
                self._metrics.exhausted(routed.endpoint, attempt.workers)
                raise
            clear_tracebacks(error)
            return True
        except asyncio.CancelledError:
            if request.timed_out:
                attempt.count_silence()
            raise
        self._metrics.responded(status)
        if not routed.retries(status):
            return False
        if is_last:
            self._metrics.exhausted(routed.endpoint, attempt.workers)
            return False
        self._metrics.failed(attempt.failed_worker or attempt.workers[-1], f"status_{status}")
        return True

    async def _next_attempt(
        self,
        attempts: AttemptMaker,
        routed: RoutedRequest,
        context: RoutingContext,
        avoid: Collection[Worker],
        *,
        may_try: bool,
    ) -> tuple[ForwardingAttempt, Trial | None]:
        """Make an attempt. Where the only workers restart, wait for them, or be the request that tries them."""
        while True:
            await attempts.wait_for_places(routed)
            try:
                return attempts.make(routed, context, avoid), None
            except NoWorker:
                if not self._restarts.needed(routed.model):
                    raise
            trial = await self._restarts.wait(routed.model, may_try=may_try and routed.needs_engine)
            if trial is None:
                continue
            may_try = False  # once
            try:
                attempt = attempts.make(routed, replace(context, tries=True), avoid)
                trial.begin(attempt.workers)
            except NoWorker:
                trial.end(generated=False)
            except BaseException:
                trial.end(generated=False)
                raise
            else:
                return attempt, trial
