"""Free TCP ports."""

import socket
from collections.abc import Iterator


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(host: str = "127.0.0.1", start: int = 30001) -> Iterator[int]:
    """Free ports from `start` up, each given out once.

    Below the kernel's ephemeral range, so that an outgoing connection cannot take one before its
    server listens.
    """
    for port in range(start, 32768):
        if is_free(port, host):
            yield port
    raise RuntimeError(f"no free port is left from {start} to 32767.")
