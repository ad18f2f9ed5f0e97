"""Serving an app on sockets until SIGINT or SIGTERM."""

import asyncio
import gc
import socket
from collections.abc import Sequence

import uvloop
from uvicorn.config import Config
from uvicorn.server import Server

from router.server.app import App
from router.server.connections.forwarded import behind_proxies
from router.server.connections.timeouts import protocol_with_timeouts
from router.server.settings import ServerSettings

# libuv accepts one connection for each of a listening socket's descriptors in a turn of the loop; on a busy loop, whose
# turns take 20 ms, hundreds of new clients would wait for seconds while others are answered again and again.
ACCEPTORS = 8


def serve(app: App, listeners: Sequence[socket.socket], settings: ServerSettings) -> int:
    """Serve; the exit code. After SIGTERM nothing new is accepted, and what is being answered gets its time to end."""
    config = Config(
        behind_proxies(app),
        interface="asgi3",
        proxy_headers=False,
        http=protocol_with_timeouts(settings.client_timeout_secs),
        loop="uvloop",
        lifespan="on",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=settings.grace_secs,
    )
    # What was imported stays for ever: looked through again and again, it would hold requests up for 20 ms.
    gc.collect()
    gc.freeze()
    # Hardly anything is left in circles; with the usual 700 the collector looks for them every dozen requests.
    gc.set_threshold(10_000, 10, 10)
    server = Server(config)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            more = [listener.dup() for listener in listeners for _ in range(ACCEPTORS - 1)]
            runner.run(server.serve(sockets=[*listeners, *more]))
    except KeyboardInterrupt:  # uvicorn raises the signal again after its orderly stop
        return 130
    return 0 if server.started else 1
