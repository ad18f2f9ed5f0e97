"""Free TCP ports, and the addresses to listen on."""

import ipaddress
import socket
from collections.abc import Iterator

from launch.errors import PlanError

LOOPBACK = "127.0.0.1"
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - only where the user asks for it
FIRST_ROUTER_PORT = 30000
FIRST_SERVER_PORT = 30001
EPHEMERAL_START = 32768
"""Where the kernel's ephemeral ports begin: below it, no outgoing connection can take a port before its server."""
END = 65536


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on a port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(host: str = LOOPBACK, start: int = FIRST_SERVER_PORT) -> Iterator[int]:
    """Free ports from `start` up, each given out once; those of the ephemeral range only if `start` is one of them.

    Raises:
        PlanError: None is left.
    """
    end = EPHEMERAL_START if start < EPHEMERAL_START else END
    for port in range(start, end):
        if is_free(port, host):
            yield port
    raise PlanError(f"no port of {host} is left from {start} to {end - 1}; stop what listens there, or begin lower.")


def check_own_address(host: str) -> None:
    """Raise `PlanError` unless `host` is an IPv4 address on which this machine can listen."""
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        raise PlanError(
            f"--server-host {host} is no IPv4 address; give one of this machine's, such as {LOOPBACK}."
        ) from None
    if not is_free(0, host):
        raise PlanError(f"--server-host {host} is no address of this machine; `hostname -I` lists those it has.")


def address_to_connect(host: str) -> str:
    """The address at which this machine reaches a server that listens on `host`."""
    return LOOPBACK if host == EVERY_ADDRESS else host
