"""Access: the API key, and request fields that only the router may set."""

import hmac
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
        self._expected = None if key is None else f"Bearer {key}".encode()

    def matches(self, request: ClientRequest) -> bool:
        """Whether a request has the key, or none is needed."""
        if self._expected is None:
            return True
        authorization = (request.header(b"authorization") or "").encode("latin-1")
        return hmac.compare_digest(authorization, self._expected)

    def check(self, request: ClientRequest) -> None:
        """Raise `Unauthorized` for a request without the key."""
        if not self.matches(request):
            raise Unauthorized("the API key is missing or wrong; send it as `Authorization: Bearer KEY`.")


def refuse_reserved(body: dict[str, Any]) -> None:
    """Raise `BadRequest` for bootstrap fields: with them a client could make servers connect to any address."""
    for name in RESERVED_FIELDS:
        if body.get(name) is not None:
            raise BadRequest(f"`{name}` is set by the router alone; send the request without it.")
