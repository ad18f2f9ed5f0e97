"""The ASGI application: answers each request, errors included, and starts and stops background work."""

import asyncio
import logging
import time

from router.early_exit import Judge, JudgeError
from router.endpoints.routes import Route
from router.errors import BadRequest, NotFound, RouterError, clear_tracebacks
from router.http.asgi import ClientGone, Receive, Scope, Send
from router.http.client_request import ID_HEADERS, ClientRequest
from router.observability.tracing import start_tracing
from router.server.access_log import log_request
from router.server.components import Components
from router.server.cors import Cors

logger = logging.getLogger(__name__)

NO_WEBSOCKET = (
    "WebSocket is not spoken here; POST the request, with `stream` set to true for events while the answer is written."
)
METRICS_PATHS, HEALTH_PATHS = ("/metrics",), ("/liveness", "/readiness", "/health")  # of ports of their own
STOP_TIMEOUT = 5.0  # seconds that cancelled requests get to abort on the workers


class App:
    """One router, or one of its processes.

    Args:
        components: Its parts.

    Raises:
        RouterError: The settings of tracing cannot be used.
    """

    def __init__(self, components: Components) -> None:
        self.components = components
        server = components.settings.server
        self._cors = Cors(server.cors_origins, components.endpoints.routes)
        self._tracing = start_tracing(components.settings.trace, redact_text=server.redact_text)
        names = server.request_id_headers
        self._id_headers = ID_HEADERS if names is None else tuple(name.lower().encode() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope: an HTTP request, or the lifespan of the server."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            server, peers = self.components.settings.server, self.components.peers
            request = ClientRequest(
                scope,
                receive,
                send,
                max_body=server.max_payload_bytes,
                id_headers=self._id_headers,
                budget=self.components.clients.limits.bodies,
            )
            listener = scope.get("server")  # address and port; of a Unix socket its path and None
            # A request over the private Unix socket of this process comes from another one.
            if peers is not None and listener == (str(peers.own_socket), None):
                request.trust_sender()
            port = None if listener is None else listener[1]
            only = () if request.internal else self._only_paths_of(port)
            # The port for metrics asks for no key, but only where it is known to be that one.
            asks_key = not request.internal and not (only == METRICS_PATHS and port is not None)
            interval = server.sse_keepalive_secs
            if interval and not request.internal:  # the process that the client is connected to does it
                request.keep_stream_alive(interval)
            await self._answer(request, only, asks_key=asks_key)

    def _only_paths_of(self, port: int | None) -> tuple[str, ...]:
        """The only paths of a port that is for some; none for the port of clients."""
        server = self.components.settings.server
        if server.health_check_port is not None and port == server.health_check_port:
            return HEALTH_PATHS
        # Where the port is not known, it may be this one.
        return METRICS_PATHS if server.prometheus_port is not None and port in (server.prometheus_port, None) else ()

    async def _answer(self, request: ClientRequest, only: tuple[str, ...], *, asks_key: bool) -> None:
        clients = self.components.clients
        clients.requests.add(request)
        self._cors.add_headers(request)
        route: Route | None = None
        error_code = ""
        try:
            if self._cors.is_preflight(request):
                await self._cors.answer_preflight(request)
                return
            _refuse_websocket(request)
            route, variable = self.components.endpoints.routes.find(request)
            if self._tracing is not None and route.endpoint:
                request.span = self._tracing.start_request(request, route.path, route.endpoint)
            if only and route.path not in only:
                raise NotFound(f"this port is for {', '.join(only)} only.")
            self._cors.check(request, route)
            if asks_key:
                clients.keys.check(request, route.right)
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
            clients.requests.discard(request)
            request.release_body()
            error_code = error_code or request.stream_error
            request.end_keep_alive()
            if request.span is not None:
                request.span.end(request, error_code)
            if not request.internal:  # the process that the client is connected to counts and logs it
                clients.metrics.record(request, route, error_code)
                log_request(request, error_code)

    async def _handle_limited(self, request: ClientRequest, route: Route, variable: tuple[str, ...]) -> None:
        self.components.endpoints.drain.admit(request)
        limits = self.components.clients.limits
        if not limits.enabled:
            await route.handler(request, *variable)
            return
        await limits.enter(request)
        try:
            await route.handler(request, *variable)
        finally:
            limits.leave(request)

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
        parts = self.components
        parts.event_loop.start()
        replaces = parts.peers is not None and parts.peers.restarted
        if parts.endpoints.worker_changes is not None:
            await parts.endpoints.worker_changes.start()
        if parts.peers is not None and replaces:
            parts.workers.registry.expect()
            parts.endpoints.drain.follow(await parts.peers.get_from_others("/drain"))
        if parts.workers.shared is not None:
            parts.workers.shared.start()
        await parts.workers.supervisor.start()
        if parts.workers.watcher is not None:
            parts.workers.watcher.start()
        parts.files.start()
        judge = parts.runs.judge
        if parts.runs.preload_judge and isinstance(judge, Judge):
            if replaces:
                judge.start_soon()
            else:
                await judge.start()

    async def stop(self) -> None:
        """Stop background work, let cancelled requests abort on the workers, and close connections."""
        parts = self.components
        parts.event_loop.close()
        await parts.files.close()
        if parts.workers.watcher is not None:
            await parts.workers.watcher.close()
        if parts.endpoints.worker_changes is not None:
            await parts.endpoints.worker_changes.close()
        await parts.workers.supervisor.close()
        if parts.workers.shared is not None:
            await parts.workers.shared.close()
        deadline = time.monotonic() + STOP_TIMEOUT
        while parts.clients.requests and time.monotonic() < deadline:  # noqa: ASYNC110 - an event would cost each request
            await asyncio.sleep(0.01)
        parts.runs.agents.close()
        if parts.peers is not None:
            parts.peers.close()
        await parts.runs.judge.close()
        await parts.workers.dispatcher.close()
        parts.workers.registry.close()
        if self._tracing is not None:
            await self._tracing.stop()


def _refuse_websocket(request: ClientRequest) -> None:
    """Raise `BadRequest` for the handshake of a WebSocket, whatever its path."""
    if request.method == "GET" and request.header(b"sec-websocket-key") is not None:
        raise BadRequest(NO_WEBSOCKET)
