"""The ASGI application: answers each request, errors included, and starts and stops background work."""

import asyncio
import logging
import time

from router.access.key_ring import KeyRing
from router.early_exit import AgreementJudge, Judge, JudgeError
from router.endpoints.routes import Route
from router.errors import BadRequest, NotFound, RouterError, clear_tracebacks
from router.http.asgi import ClientGone, Receive, Scope, Send
from router.http.client_request import ID_HEADERS, ClientRequest
from router.observability.tracing import start_tracing
from router.server.access_log import log_request
from router.server.components import build_components
from router.server.cors import Cors
from router.server.processes.peers import Peers
from router.server.settings import RouterSettings
from router.tls.contexts import WorkerTls

logger = logging.getLogger(__name__)

NO_WEBSOCKET = (
    "WebSocket is not spoken here; POST the request, with `stream` set to true for events while the answer is written."
)
METRICS_PATHS, HEALTH_PATHS = ("/metrics",), ("/liveness", "/readiness", "/health")  # of ports of their own
STOP_TIMEOUT = 5.0  # seconds that cancelled requests get to abort on the workers


class App:
    """One router, or one of its processes.

    Args:
        settings: What it serves and how.
        judge: Measures how much answers agree; closed by `stop`. None for the router's own.
        peers: The processes of this router, or None when there is one.
        keys: The API keys, where they are read already; None reads them.
        worker_tls: The certificates towards workers, where they are read already; None reads them.

    Raises:
        RouterError: A setting cannot be used.
    """

    def __init__(
        self,
        settings: RouterSettings,
        judge: AgreementJudge | None = None,
        peers: Peers | None = None,
        keys: KeyRing | None = None,
        worker_tls: WorkerTls | None = None,
    ) -> None:
        self._settings = settings
        self._peers = peers
        parts = build_components(settings, judge, peers, keys, worker_tls)
        self.registry = parts.registry
        self.dispatcher = parts.dispatcher
        self.supervisor = parts.supervisor
        self.limits = parts.limits
        self.judge = parts.judge
        self.routes = parts.routes
        self._preload_judge = parts.preload_judge
        self._watcher = parts.watcher
        self._files = parts.files
        self.trees = parts.trees
        self._agent_runs = parts.agent_runs
        self._drain = parts.drain
        self._worker_changes = parts.worker_changes
        self._keys = parts.keys
        self._requests = parts.requests
        self._metrics = parts.request_metrics
        self._event_loop = parts.event_loop
        self.connection_timeouts = parts.connection_timeouts
        self._cors = Cors(settings.server.cors_origins, parts.routes)
        self._tracing = start_tracing(settings.trace, redact_text=settings.server.redact_text)
        names = settings.server.request_id_headers
        self._id_headers = ID_HEADERS if names is None else tuple(name.lower().encode() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope: an HTTP request, or the lifespan of the server."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            request = ClientRequest(
                scope,
                receive,
                send,
                max_body=self._settings.server.max_payload_bytes,
                id_headers=self._id_headers,
                budget=self.limits.bodies,
            )
            listener = scope.get("server")  # address and port; of a Unix socket its path and None
            # A request over the private Unix socket of this process comes from another one.
            if self._peers is not None and listener == (str(self._peers.own_socket), None):
                request.trust_sender()
            port = None if listener is None else listener[1]
            only = () if request.internal else self._only_paths_of(port)
            # The port for metrics asks for no key, but only where it is known to be that one.
            asks_key = not request.internal and not (only == METRICS_PATHS and port is not None)
            interval = self._settings.server.sse_keepalive_secs
            if interval and not request.internal:  # the process that the client is connected to does it
                request.keep_stream_alive(interval)
            await self._answer(request, only, asks_key=asks_key)

    def _only_paths_of(self, port: int | None) -> tuple[str, ...]:
        """The only paths of a port that is for some; none for the port of clients."""
        server = self._settings.server
        if server.health_check_port is not None and port == server.health_check_port:
            return HEALTH_PATHS
        # Where the port is not known, it may be this one.
        return METRICS_PATHS if server.prometheus_port is not None and port in (server.prometheus_port, None) else ()

    async def _answer(self, request: ClientRequest, only: tuple[str, ...], *, asks_key: bool) -> None:
        self._requests.add(request)
        self._cors.add_headers(request)
        route: Route | None = None
        error_code = ""
        try:
            if self._cors.is_preflight(request):
                await self._cors.answer_preflight(request)
                return
            _refuse_websocket(request)
            route, variable = self.routes.find(request)
            if self._tracing is not None and route.endpoint:
                request.span = self._tracing.start_request(request, route.path, route.endpoint)
            if only and route.path not in only:
                raise NotFound(f"this port is for {', '.join(only)} only.")
            self._cors.check(request, route)
            if asks_key:
                self._keys.check(request, route.right)
            if route.limited:
                await self._handle_limited(request, route, variable)
            else:
                await route.handler(request, *variable)
        except ClientGone as gone:
            logger.debug("client left: %s %s", request.method, request.path)
            clear_tracebacks(gone)
        except RouterError as error:
            error_code = error.kind
            await self._send_error(request, error)
            clear_tracebacks(error)
        except Exception:
            logger.exception("unexpected error in %s %s", request.method, request.path)
            error_code = RouterError.kind
            await self._send_error(request, RouterError("the router failed on this request; its log has the cause."))
        finally:
            self._requests.discard(request)
            request.release_body()
            error_code = error_code or request.stream_error
            request.end_keep_alive()
            if request.span is not None:
                request.span.end(request, error_code)
            if not request.internal:  # the process that the client is connected to counts and logs it
                self._metrics.record(request, route, error_code)
                log_request(request, error_code)

    async def _handle_limited(self, request: ClientRequest, route: Route, variable: tuple[str, ...]) -> None:
        self._drain.admit(request)
        if not self.limits.enabled:
            await route.handler(request, *variable)
            return
        await self.limits.enter(request)
        try:
            await route.handler(request, *variable)
        finally:
            self.limits.leave(request)

    @staticmethod
    async def _send_error(request: ClientRequest, error: RouterError) -> None:
        if request.response_started:
            # The status line is sent: only closing the connection without the last chunk can signal the error.
            raise error
        if error.retry_after is not None:
            request.extra_headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after))))
        await request.send_json(error.body(), error.status)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.start()
                except JudgeError as error:
                    await self.stop()
                    await send({"type": "lifespan.startup.failed", "message": f"early exit has no judge: {error}."})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def start(self) -> None:
        """Probe the workers once, load the judge if a tree needs it, and start background work.

        A process that replaces one that died keeps no client waiting for the judge's model.

        Raises:
            JudgeError: Its model cannot be had.
        """
        self._event_loop.start()
        replaces = self._peers is not None and self._peers.restarted
        if self._worker_changes is not None:
            await self._worker_changes.start()
        if self._peers is not None and replaces:
            self.registry.expect()
            self._drain.follow(await self._peers.get_from_others("/drain"))
        await self.supervisor.start()
        if self._watcher is not None:
            self._watcher.start()
        self._files.start()
        if self._preload_judge and isinstance(self.judge, Judge):
            if replaces:
                self.judge.start_soon()
            else:
                await self.judge.start()

    async def stop(self) -> None:
        """Stop background work, let cancelled requests abort on the workers, and close connections."""
        self._event_loop.close()
        await self._files.close()
        if self._watcher is not None:
            await self._watcher.close()
        if self._worker_changes is not None:
            await self._worker_changes.close()
        await self.supervisor.close()
        deadline = time.monotonic() + STOP_TIMEOUT
        while self._requests and time.monotonic() < deadline:  # noqa: ASYNC110 - an event would cost each request
            await asyncio.sleep(0.01)
        self._agent_runs.close()
        if self._peers is not None:
            self._peers.close()
        await self.judge.close()
        await self.dispatcher.close()
        self.registry.close()
        if self._tracing is not None:
            await self._tracing.stop()


def _refuse_websocket(request: ClientRequest) -> None:
    """Raise `BadRequest` for the handshake of a WebSocket, whatever its path."""
    if request.method == "GET" and request.header(b"sec-websocket-key") is not None:
        raise BadRequest(NO_WEBSOCKET)
