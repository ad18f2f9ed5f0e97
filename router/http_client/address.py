"""Parses the addresses of workers."""

import re
from urllib.parse import urlsplit

from router.errors import BadRequest

# A regular expression: an optional `http://`, a host name or IP address, an optional port.
WORKER_ADDRESS = r"([Hh][Tt][Tt][Pp]://)?(\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\]|[A-Za-z0-9_.-]+)(:[0-9]+)?/?"


def parse_address(url: str) -> tuple[str, int]:
    """The host and port of a worker's address; the default port is 80. Raises `BadRequest`."""
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        host = parts.hostname or ""
        host.encode("idna")  # raises for a name that cannot be resolved
        # Match the whole address, since urlsplit ignores line breaks and spaces.
        if re.fullmatch(WORKER_ADDRESS, url) and parts.port != 0:
            return host, parts.port or 80
    except ValueError:
        pass
    raise BadRequest(f"{url!r} is not a worker's address; give one like http://127.0.0.1:30001.")
