"""Request fields that only the router may set."""

from typing import Any

from router.dispatch.pair_fields import RESERVED_FIELDS
from router.errors import BadRequest


def refuse_reserved(body: dict[str, Any]) -> None:
    """Raise `BadRequest` for bootstrap fields: with them a client could make servers connect to any address."""
    for name in RESERVED_FIELDS:
        if body.get(name) is not None:
            raise BadRequest(f"`{name}` is set by the router alone; send the request without it.")
