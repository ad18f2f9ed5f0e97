"""`python -m router`: parse the command line and serve."""

import asyncio
import resource
import socket
import sys

import uvicorn
import uvloop

from router.app import App
from router.cli import parse
from router.errors import RouterError
from router.http.impatience import impatient
from router.logs import set_up_logs
from router.settings import Settings


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises `OSError` when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port} ({error.strerror})") from None
    # At once: until it listens, a second router on the port would not notice this one.
    listener.listen(2048)
    return listener


def listen_all(settings: Settings) -> list[socket.socket]:
    """The main socket, and that of the metrics where they have their own."""
    server = settings.server
    addresses = [(server.host, server.port)]
    if server.prometheus_port is not None:
        addresses.append((server.prometheus_host, server.prometheus_port))
    return [listen(host, port) for host, port in addresses]


def open_more_files() -> None:
    """Raise the limit of open files as far as it goes: each request takes three connections, often of 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    settings = parse(sys.argv[1:])
    open_more_files()
    try:
        set_up_logs(settings.server.log_level, settings.server.log_dir)
        app = App(settings)
        listeners = listen_all(settings)
    except RouterError as error:
        print(f"router: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"router: {error.strerror}; choose another.", file=sys.stderr)
        return 2
    config = uvicorn.Config(
        app,
        http=impatient(settings.server.client_timeout_secs),
        loop="uvloop",
        lifespan="on",
        log_level="warning",
        access_log=False,
        # After SIGTERM nothing new is accepted, and what is being answered gets this time to end.
        timeout_graceful_shutdown=settings.server.grace_secs,
    )
    server = uvicorn.Server(config)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(sockets=listeners))
    except KeyboardInterrupt:  # uvicorn raises the signal again after its orderly stop
        return 130
    return 0 if server.started else 1


if __name__ == "__main__":
    raise SystemExit(main())
