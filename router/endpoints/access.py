"""Access: the API key, and request fields that only the router may set."""

import hmac
from hashlib import sha256
from typing import Any

from router.dispatch.pair_fields import RESERVED_FIELDS
from router.errors import BadRequest, Unauthorized
from router.http.client_request import ClientRequest


class ApiKey:
    """The router's API key; compared in constant time, so that response times reveal nothing about it.

    Args:
        key: None lets every request in.
    """

    def __init__(self, key: str | None) -> None:
        self._expected = None if key is None else key.encode()
        self._hash = None if key is None else sha256(key.encode()).hexdigest()

    def matches(self, request: ClientRequest) -> bool:
        """Whether a request has the key, or none is needed."""
        if self._expected is None:
            return True
        # RFC 9110: the scheme's name in any case, then one or more spaces.
        scheme, _, key = (request.header(b"authorization") or "").partition(" ")
        return hmac.compare_digest(key.strip(" ").encode("latin-1"), self._expected) and scheme.lower() == "bearer"

    def check(self, request: ClientRequest) -> None:
        """Note whose request this is; raises `Unauthorized` for one without the key."""
        if not self.matches(request):
            raise Unauthorized("the API key is missing or wrong; send it as `Authorization: Bearer KEY`.")
        request.key_hash = self._hash


def refuse_reserved(body: dict[str, Any]) -> None:
    """Raise `BadRequest` for bootstrap fields: with them a client could make servers connect to any address."""
    for name in RESERVED_FIELDS:
        if body.get(name) is not None:
            raise BadRequest(f"`{name}` is set by the router alone; send the request without it.")
