"""A client's request on a plain server, and its response."""

import time
from collections.abc import Callable, Collection
from contextlib import aclosing
from typing import Any, Protocol

from router.dispatch.client_headers import NO_CLIENT_HEADERS, client_headers
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.worker_errors import is_unknown_path, raise_failure, without_paths
from router.dispatch.worker_use import WorkerUse
from router.errors import NotFound, UpstreamFailed
from router.forwarding.answer_tokens import tokens_of_chunk, tokens_of_response
from router.forwarding.forwarder import AttemptMaker, ForwardingAttempt, RoutedRequest
from router.forwarding.plain_fields import plain_fields
from router.forwarding.worker_headers import passed_headers, stream_headers
from router.http.client_request import ClientRequest
from router.http_client.response import Response
from router.load_balancing import UNWATCHED, RequestWatch, RoutingContext
from router.observability.tracing.leg_tracer import UNTRACED_LEG
from router.request_checks.batches import GENERATION_PATHS
from router.workers.worker import Worker

AddedFields = Callable[[RoutedRequest, Worker], dict[str, Any]]


class ServerChoice(Protocol):
    """Chooses the server of an attempt otherwise than by the policy."""

    def choose(self, routed: RoutedRequest, context: RoutingContext, avoid: Collection[Worker]) -> Worker:
        """As of `AttemptMaker.make`."""


class PlainAttemptMaker(AttemptMaker):
    """Makes attempts on plain servers, or on one server of a pair.

    Args:
        dispatcher: Sends aborts.
        added_fields: Fields that the body gets for a server. The ids among them (`rid`, one or several, and
            `request_id`) are aborted there when the client leaves.
        choice: Chooses the server; None for a plain server by the policy.
    """

    def __init__(
        self, dispatcher: Dispatcher, added_fields: AddedFields = plain_fields, choice: ServerChoice | None = None
    ) -> None:
        self._dispatcher = dispatcher
        self._added_fields = added_fields
        self._choice = choice

    async def wait_for_places(self, routed: RoutedRequest) -> None:
        """Return at once: only pairs have places."""

    def make(self, routed: RoutedRequest, context: RoutingContext, avoid: Collection[Worker]) -> "PlainAttempt":
        """As of `AttemptMaker`."""
        selector, choice = self._dispatcher.selector, self._choice
        if choice is None:
            worker = selector.choose_plain(routed.model, context, avoid, takes_rank=routed.path in GENERATION_PATHS)
        else:
            worker = choice.choose(routed, context, avoid)
        added = self._added_fields(routed, worker)  # it may refuse the request, of which the policy must not learn then
        watch = UNWATCHED
        if choice is None and routed.needs_engine:
            watch = selector.watch_plain(worker, streams=bool(routed.body.fields.get("stream")))
        return PlainAttempt(self._dispatcher, routed, worker, added, watch)


class PlainAttempt(ForwardingAttempt):
    """An attempt on a plain server."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        routed: RoutedRequest,
        worker: Worker,
        added: dict[str, Any],
        watch: RequestWatch,
    ) -> None:
        self.workers = (worker,)
        self._dispatcher = dispatcher
        self._routed = routed
        self._worker = worker
        self._added = added
        self._watch = watch
        self._use = WorkerUse(worker, of_engine=routed.needs_engine, model=routed.model)
        self._headers = NO_CLIENT_HEADERS

    async def run(self, request: ClientRequest, *, is_last: bool) -> int:
        """As of `ForwardingAttempt`."""
        worker, routed, use = self._worker, self._routed, self._use
        finished = False
        self._headers = client_headers(request)
        try:
            with (
                use,
                UNTRACED_LEG
                if request.span is None
                else request.span.start_leg(worker, routed.path, routed.model, routed.method) as leg,
            ):
                body = b"" if routed.method == "GET" else routed.body.render(self._added)
                headers = leg.headers + self._headers.for_worker(worker)
                async with await worker.origin.request(
                    routed.method, routed.path, body, headers, on_change=use.on_data
                ) as response:
                    del body  # sent, and may be long
                    use.status = response.status
                    leg.response_started(response.status)
                    if is_last or not routed.retries(response.status):
                        await _send_response(request, routed, response, self._watch, use)
                    finished = True
            if routed.retries(response.status):
                self.failed_worker = worker
            return response.status
        except BaseException:
            self.failed_worker = worker if use.failed else None
            raise
        finally:
            self._watch.given_up()
            if not finished:
                self._abort()

    def _abort(self) -> None:
        """Abort the request on the server: SGLang notices a closed connection only after seconds."""
        if self._worker.capability == "openai" and not self._worker.health.wants_key:
            return
        for ids in (self._added.get("rid"), self._added.get("request_id")):
            if ids:
                self._dispatcher.background.abort((self._worker,), ids, self._headers)

    def count_silence(self) -> None:
        """As of `ForwardingAttempt`."""
        self._use.count_silence()


async def _send_response(
    request: ClientRequest, routed: RoutedRequest, response: Response, watch: RequestWatch, use: WorkerUse
) -> None:
    content_type = response.header(b"content-type") or b"application/json"
    if not content_type.startswith(b"text/event-stream"):
        body = await response.read()
        if is_unknown_path(response.status, body):
            await request.send_json(NotFound(f"the model's server has no {routed.path}.").body(), NotFound.status)
            return
        if response.status >= 400:
            body = without_paths(body)
        else:
            watch.ended(tokens_of_response(body))
        headers = [(b"content-type", content_type), *passed_headers(response.headers)]
        await request.send_response(response.status, body, headers)
        return
    async with aclosing(response.chunks()) as chunks:
        # Headers are sent with the first chunk: a failure before it can still be retried.
        first_chunk = await anext(chunks, b"")
        try:
            raise_failure(first_chunk)
        except UpstreamFailed as failure:
            use.status = failure.upstream_status or use.status  # for the breaker; the response began with 200
            raise
        watch.first_token()
        tokens = tokens_of_chunk(first_chunk)
        request.streaming, request.first_chunk_at = True, time.monotonic()
        await request.send_headers(response.status, stream_headers(response.headers))
        if first_chunk:
            await request.send_chunk(first_chunk)
        async for chunk in chunks:
            tokens += tokens_of_chunk(chunk)
            await request.send_chunk(chunk)
    watch.ended(tokens)
    await request.send_chunk(b"", more=False)
