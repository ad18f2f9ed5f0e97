"""Requests that ask for another protocol on their connection (`Upgrade`): the offer is ignored, as HTTP allows.

The parser takes such a request's body for data of the other protocol. Its head is therefore written anew without the
offer, and parsed again together with what follows.
"""

from collections.abc import Iterable

from router.http.asgi import Headers

UPGRADE_HEADERS = (b"upgrade", b"http2-settings")  # also as tokens of `connection`


def head_without_upgrade(method: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    """The head of a request, up to the empty line, without its offer to upgrade.

    Args:
        method: Such as `POST`.
        url: The request's target, as it was sent.
        version: HTTP's version, such as `1.1`.
        headers: Names in lower case, with their values.
    """
    lines = [b"%b %b HTTP/%b\r\n" % (method, url, version.encode())]
    lines += [b"%b: %b\r\n" % header for header in _without_upgrade(headers)]
    return b"".join([*lines, b"\r\n"])


def _without_upgrade(headers: Headers) -> Iterable[tuple[bytes, bytes]]:
    for name, value in headers:
        if name == b"connection":
            tokens = [token.strip() for token in value.split(b",")]
            kept = [token for token in tokens if token and token.lower() not in UPGRADE_HEADERS]
            if kept:
                yield name, b", ".join(kept)
        elif name not in UPGRADE_HEADERS:
            yield name, value
