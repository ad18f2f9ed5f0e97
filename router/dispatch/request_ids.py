"""Makes unique request ids that begin with the client's own id.

SGLang aborts every request whose id starts with the id to abort. So one client's id, sent as it is, could abort the
requests of others.
"""

from typing import Any

from router.errors import BadRequest
from router.http.ids import new_id


def unique_id(prefix: str) -> str:
    """A new id that begins with the client's prefix, if there is one; no such id is a prefix of another."""
    return f"{prefix}-{new_id()}" if prefix else new_id()


def unique_ids(rid: Any, count: int | None = None) -> str | list[str]:
    """New ids in place of a request's `rid`: one for a string, a list for a list.

    Args:
        rid: What the client sent.
        count: The number of strings that a list must have; None for any.

    Raises:
        BadRequest: It is no id.
    """
    if isinstance(rid, str):
        return unique_id(rid)
    if isinstance(rid, list) and count in (None, len(rid)) and all(isinstance(prefix, str) for prefix in rid):
        return [unique_id(prefix) for prefix in rid]
    raise BadRequest("`rid` must be a string, or a list of one string for each prompt.")


def ids_of_prompts(rid: Any, size: int | None) -> str | list[str]:
    """New ids for the prompts of a request, with the client's `rid` as prefix if it gave one.

    Args:
        rid: What the client sent, or None.
        size: The number of prompts of a batch; None for a request that is none.

    Raises:
        BadRequest: `rid` is no id, or its length is not that of the batch.
    """
    if rid is None and size is None:
        return new_id()
    prefixes = rid if isinstance(rid, list) else [rid or ""] * (size or 1)
    ids = unique_ids(prefixes, size or 1)
    return ids[0] if size is None else ids
