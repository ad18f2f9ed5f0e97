"""Who may ask: the API key, and what of a request only this router may say."""

import hmac
from typing import Any

from router.dispatch.pair_fields import RESERVED_FIELDS
from router.errors import BadRequest, Unauthorized
from router.http.client_request import ClientRequest


class ApiKey:
    """Compares in constant time, so that the time of an answer tells nothing about the key."""

    def __init__(self, key: str | None) -> None:
        self._wanted = None if key is None else f"Bearer {key}".encode()

    def fits(self, request: ClientRequest) -> bool:
        """Whether a request has the key, or none is wanted."""
        if self._wanted is None:
            return True
        given = (request.header(b"authorization") or "").encode("latin-1")
        return hmac.compare_digest(given, self._wanted)

    def check(self, request: ClientRequest) -> None:
        """Raise `Unauthorized` without the key."""
        if not self.fits(request):
            raise Unauthorized("the API key is missing or wrong; send it as `Authorization: Bearer KEY`.")


def refuse_reserved(body: dict[str, Any]) -> None:
    """Raise `BadRequest` when a client says where the servers shall meet: that could be any address."""
    for name in RESERVED_FIELDS:
        if body.get(name) is not None:
            raise BadRequest(f"`{name}` is set by the router alone; send the request without it.")
