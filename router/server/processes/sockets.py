"""Creates listening sockets."""

import socket
from pathlib import Path

from router.server.settings import ServerSettings

BACKLOG = 2048


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening TCP socket; raises `OSError` when the port is taken. `reuse_port` lets others listen on it too."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port} ({error.strerror})") from None
    # At once: a second router can bind the port as long as this one does not listen.
    listener.listen(BACKLOG)
    return listener


def listen_on_other_ports(server: ServerSettings) -> list[socket.socket]:
    """The sockets of `--prometheus-port` and `--health-check-port`, where they are given; raises `OSError`."""
    ports = (server.prometheus_host, server.prometheus_port), (server.host, server.health_check_port)
    return [listen(host, port) for host, port in ports if port is not None]


def listen_many(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` sockets that share one port, among which Linux spreads connections; raises `OSError` when it is taken."""
    listen(host, port).close()  # without SO_REUSEPORT this fails where another router has the port
    first = listen(host, port, reuse_port=True)
    return [first, *(listen(host, first.getsockname()[1], reuse_port=True) for _ in range(count - 1))]


def listen_privately(path: Path) -> socket.socket:
    """A listening Unix socket at a path; raises `OSError`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        reason = error.strerror or error  # Python itself refuses a path that is too long, without a strerror
        raise OSError(error.errno, f"TMPDIR names no folder for sockets: cannot listen on {path} ({reason})") from None
    listener.listen(BACKLOG)
    return listener
