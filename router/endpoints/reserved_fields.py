"""Request fields that only the router may set."""

from typing import Any

from router.errors import BadRequest
from router.request_checks.refused_fields import INTERNAL_FIELDS, RESERVED_FIELDS

_OWN = frozenset((*RESERVED_FIELDS, *INTERNAL_FIELDS))


def refuse_reserved(body: dict[str, Any]) -> None:
    """Raise `BadRequest` for fields that only the router or the server may set.

    With bootstrap fields a client could make servers connect to any address.
    """
    if _OWN.isdisjoint(body):
        return
    for name in RESERVED_FIELDS:
        if body.get(name) is not None:
            raise BadRequest(f"`{name}` is set by the router alone; send the request without it.")
    for name in INTERNAL_FIELDS:
        if body.get(name) is not None:
            raise BadRequest(f"`{name}` is set by the server alone; send the request without it.")
