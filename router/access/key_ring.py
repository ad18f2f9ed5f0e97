"""Finds the client of a request by its API key, and checks what it may do."""

from collections.abc import Collection, Mapping
from pathlib import Path

from router.access.client import ALL_RIGHTS, ANYBODY, Client, Right
from router.access.key_file import API_KEY_NAME, digest_of, read_key_file
from router.errors import BadRequest, Forbidden, Unauthorized
from router.http.client_request import ClientRequest


class KeyRing:
    """The API keys. Of each only the digest is kept.

    Args:
        clients: By the digest of their keys; without any, every request may do everything.

    Attributes:
        from_file: Whether there is a file of keys.
    """

    def __init__(self, clients: Mapping[bytes, Client], *, from_file: bool = False) -> None:
        self._clients = dict(clients)
        self.from_file = from_file

    @classmethod
    def load(cls, api_key: str | None, path: Path | None) -> "KeyRing":
        """The keys of the flags; raises `BadRequest` for a file that is wrong."""
        clients = {} if path is None else read_key_file(path)
        if api_key is not None:
            digest = digest_of(api_key)
            if digest in clients:
                raise BadRequest(f"{clients[digest].name} in the keys file {path} has the key of --api-key.")
            clients[digest] = Client(API_KEY_NAME, ALL_RIGHTS)
        return cls(clients, from_file=path is not None)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(client.name for client in self.clients)})"

    @property
    def clients(self) -> Collection[Client]:
        """All clients."""
        return self._clients.values()

    def client_of(self, request: ClientRequest) -> Client | None:
        """Whose request it is; None without a key, or with a wrong one."""
        if not self._clients:
            return ANYBODY
        authorization = request.header(b"authorization")
        if authorization is None:
            # As Anthropic's clients send it.
            authorization = f"Bearer {request.header(b'x-api-key') or ''}"
        # RFC 9110: the scheme's name in any case, then one or more spaces.
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        # The key itself is compared with nothing. How long the look-up of its digest takes could at most tell how a
        # digest begins, and nobody can choose a key by that.
        return self._clients.get(digest_of(key.strip(" ")))

    def check(self, request: ClientRequest, right: Right | None) -> None:
        """Note whose request it is, and whether its key is for the workers.

        Args:
            request: The request.
            right: What it needs; None lets everybody in.

        Raises:
            Unauthorized: It needs a right, and its key is missing or wrong.
            Forbidden: Its key lacks the right.
        """
        client = self.client_of(request)
        request.key_is_foreign = client is ANYBODY  # where there are keys, whoever comes this far sends one of them
        if client is not None:
            request.namespace, request.rights = client.name, client.rights
        elif right is not None:
            raise Unauthorized(
                "the API key is missing or wrong; send it as `Authorization: Bearer KEY` or `x-api-key: KEY`."
            )
        if client is not None and right is not None and right not in client.rights:
            raise Forbidden(f"the key {client.name!r} lacks the right `{right}`, which this path needs; use another.")
