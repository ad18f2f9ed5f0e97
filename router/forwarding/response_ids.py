"""Ids of stored responses (`/v1/responses`). Each has the hashes of its server's and its client's name.

So the router stores nothing, and each of its processes finds the server, also after a restart. A client that changes an
id asks for a response that no server has.
"""

import re
from collections.abc import Iterable
from hashlib import sha256

from router.errors import NotFound
from router.http.ids import new_id
from router.workers.worker import Worker

DIGITS = 12  # of each hashed name
_ID = re.compile(rf"resp_([0-9a-f]{{{DIGITS}}})([0-9a-f]{{{DIGITS}}})[0-9a-f]{{32}}")


def new_response_id(worker: Worker, owner: str) -> str:
    """A new id for a response of this server to this client."""
    return f"resp_{_hashed(worker.id)}{_hashed(owner)}{new_id()}"


def server_of_response(response_id: str, owner: str, workers: Iterable[Worker]) -> Worker:
    """The server that has a response, if it has it still.

    Args:
        response_id: As the client sent it.
        owner: The client's namespace.
        workers: All workers.

    Raises:
        NotFound: The id is none of this router's, or another client's, or its server is gone.
    """
    match = _ID.fullmatch(response_id)
    if match is not None and match[2] == _hashed(owner):
        for worker in workers:
            if worker.role == "plain" and _hashed(worker.id) == match[1]:
                return worker
    raise NotFound(f"there is no response {response_id[:100]!r} here.")


def _hashed(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:DIGITS]
