"""Serves an app on sockets until SIGINT or SIGTERM."""

import asyncio
import ctypes
import gc
import signal
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

import uvloop
from uvicorn.config import LOGGING_CONFIG, Config
from uvicorn.server import Server

from router.server.app import App
from router.server.connections.protocol import ClientProtocol
from router.server.connections.proxy_headers import with_proxy_headers
from router.server.connections.timeouts import protocol_with_timeouts

# libuv accepts one connection per descriptor of a listening socket in an iteration of the event loop. Iterations of a
# busy loop take 20 ms, so with one descriptor hundreds of new clients would wait for seconds.
DESCRIPTORS_PER_SOCKET = 8

TLS_GOODBYE_SECS = 1.0  # that an idle client has to answer the end of a connection; many never read it

M_MMAP_THRESHOLD = -3  # a parameter of glibc's `mallopt`
LARGE_BLOCK_BYTES = 1 << 20


class _Server(Server):
    """A server that SIGTERM stops in order; uvicorn raises the signal again after that, which would end the process.

    Args:
        config: uvicorn's options.
        encrypted: The sockets on which TLS is spoken.
        context: The certificate for them.
        handshake_secs: Seconds that a client has for the handshake.
    """

    def __init__(
        self,
        config: Config,
        encrypted: Sequence[socket.socket] = (),
        context: ssl.SSLContext | None = None,
        handshake_secs: float = 60,
    ) -> None:
        super().__init__(config)
        self._encrypted = encrypted
        self._context = context
        self._handshake_secs = handshake_secs

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets; uvicorn itself would speak TLS on all or none."""
        plain = [each for each in sockets or () if each not in self._encrypted]
        await super().startup(plain)
        loop = asyncio.get_running_loop()
        for each in self._encrypted:
            server = await loop.create_server(
                self._protocol,
                sock=each,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_secs,
                ssl_shutdown_timeout=TLS_GOODBYE_SECS,
            )
            self.servers.append(server)

    def _protocol(self) -> asyncio.Protocol:
        http: type[ClientProtocol] = self.config.http_protocol_class  # type: ignore[assignment]
        return http(self.config, self.server_state, self.lifespan.state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop because of a signal."""
        if sig == signal.SIGTERM:
            self.should_exit = True
        else:
            super().handle_exit(sig, frame)


def serve(app: App, listeners: Sequence[socket.socket], tls: ssl.SSLContext | None = None) -> int:
    """Serve and return the exit code; after SIGTERM requests in flight get `grace_secs` of its settings to finish.

    Args:
        app: The router.
        listeners: The sockets, that of clients first.
        tls: The certificate for clients; the other sockets, for metrics and other processes, are always plain.
    """
    settings, clients = app.components.settings.server, app.components.clients
    config = Config(
        with_proxy_headers(app),
        interface="asgi3",
        proxy_headers=False,
        http=protocol_with_timeouts(settings.client_timeout_secs, clients.connection_timeouts),
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_level="warning",
        # uvicorn logs errors in full by itself; the router's own log leaves their messages out.
        log_config=None if settings.redact_text else LOGGING_CONFIG,
        access_log=False,
        timeout_keep_alive=settings.keep_alive_secs,
        timeout_graceful_shutdown=settings.grace_secs,
    )
    _return_large_blocks()
    # Imported objects stay for ever; without `freeze`, each full collection would walk them, for 20 ms.
    gc.collect()
    gc.freeze()
    # There are hardly any reference cycles; with the default of 700 the collector runs every dozen requests.
    gc.set_threshold(10_000, 10, 10)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            sockets = [[listener, *_duplicates(listener)] for listener in listeners]
            encrypted = [] if tls is None else sockets[0]
            server = _Server(config, encrypted, tls, settings.client_timeout_secs)
            runner.run(server.serve(sockets=[each for group in sockets for each in group]))
    except KeyboardInterrupt:  # uvicorn raises the signal again after its orderly stop
        return 130
    return 0 if server.started else 1


def _duplicates(listener: socket.socket) -> list[socket.socket]:
    return [listener.dup() for _ in range(DESCRIPTORS_PER_SOCKET - 1)]


def _return_large_blocks() -> None:
    """Let glibc return the memory of long bodies to the system when they are freed; other C libraries are as they are.

    After the first freed block of some megabytes glibc would keep such blocks on its heap, up to 32 MiB each.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
