"""Free TCP ports."""

import socket
from collections.abc import Iterator

EPHEMERAL_START = 32768
"""Where the kernel's ephemeral ports begin: below it, no outgoing connection can take a port before its server."""


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on a port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(host: str = "127.0.0.1", start: int = 30001) -> Iterator[int]:
    """Free ports from `start` up, each given out once.

    Raises:
        RuntimeError: None is left below the ephemeral range.
    """
    for port in range(start, EPHEMERAL_START):
        if is_free(port, host):
            yield port
    raise RuntimeError(f"no free port is left from {start} to {EPHEMERAL_START - 1}.")
