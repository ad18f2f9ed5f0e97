"""Parses the addresses of workers."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from router.errors import BadRequest

# A regular expression: an optional `http://` or `https://`, a host name or IP address, an optional port.
WORKER_ADDRESS = r"([Hh][Tt][Tt][Pp][Ss]?://)?(\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\]|[A-Za-z0-9_.-]+)(:[0-9]+)?/?"


DEFAULT_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """Where a worker is; `scheme` is `http` or `https`."""

    scheme: str
    host: str
    port: int


def parse_address(url: str) -> Address:
    """The parts of a worker's address; the default port is that of the scheme. Raises `BadRequest`."""
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        host = parts.hostname or ""
        host.encode("idna")  # raises for a name that cannot be resolved
        # Match the whole address, since urlsplit ignores line breaks and spaces.
        if re.fullmatch(WORKER_ADDRESS, url) and parts.port != 0:
            return Address(parts.scheme, host, parts.port or DEFAULT_PORTS[parts.scheme])
    except ValueError:
        pass
    raise BadRequest(f"{url!r} is not a worker's address; give one like http://127.0.0.1:30001.")
