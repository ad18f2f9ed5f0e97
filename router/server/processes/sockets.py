"""Listening sockets."""

import socket
from pathlib import Path

from router.server.settings import ServerSettings

BACKLOG = 2048


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket; `shared` lets others listen on the port too. Raises `OSError` when it is taken."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port} ({error.strerror})") from None
    # At once: until it listens, a second router on the port would not notice this one.
    listener.listen(BACKLOG)
    return listener


def listen_on_metrics_port(server: ServerSettings) -> list[socket.socket]:
    """The socket of `/metrics` where it has its own port."""
    return [] if server.prometheus_port is None else [listen(server.prometheus_host, server.prometheus_port)]


def listen_many(host: str, port: int, count: int) -> list[socket.socket]:
    """So many sockets on one port, which nobody else has; raises `OSError`."""
    listen(host, port).close()  # another router's port would be shared without a word
    first = listen(host, port, shared=True)
    return [first, *(listen(host, first.getsockname()[1], shared=True) for _ in range(count - 1))]


def listen_privately(path: Path) -> socket.socket:
    """A listening socket in a folder; raises `OSError`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        words = error.strerror or error  # Python itself refuses a path that is too long
        raise OSError(error.errno, f"TMPDIR names no folder for sockets: cannot listen on {path} ({words})") from None
    listener.listen(BACKLOG)
    return listener
