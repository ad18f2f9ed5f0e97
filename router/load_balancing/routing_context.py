"""What a policy may know of a request: its prompt, and who it belongs to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from router.hints import MAX_KEY_BYTES, SESSION_HEADERS, read_hints
from router.load_balancing.prompt_prefix import PromptPrefix, prompt_prefix

ROUTING_KEY_HEADERS = ("x-smg-routing-key",)  # sglang-router's and smg's name
_KEY_HEADERS = [name.encode() for name in ROUTING_KEY_HEADERS]
TARGET_HEADER = b"x-smg-target-worker"
CLIENT_HEADERS = (b"x-forwarded-for", b"cookie")


@dataclass(frozen=True, slots=True)
class RoutingContext:
    """What a policy may know of a request.

    Attributes:
        prompt: The prompt, or None if it is not known.
        routing_key: What the client calls the session that the request belongs to, or None.
        client: A header by which requests of one client can be told, or None.
        target_worker: The number of the worker that the client wants, as it sent it, or None.
        model: The model that serves it; empty for requests of the router's own.
        tries: Whether it may go to servers that are back and have generated nothing yet, where there are no others.
        expected_tokens: How many tokens the client expects the answer to have; 0 where it does not say.
    """

    prompt: PromptPrefix | None = None
    routing_key: bytes | None = None
    client: bytes | None = None
    target_worker: str | None = None
    model: str = ""
    tries: bool = False
    expected_tokens: int = 0


NO_CONTEXT = RoutingContext()


def routing_context(
    model: str,
    fields: Mapping[str, Any],
    headers: Mapping[bytes, bytes],
    key_headers: Sequence[bytes] = _KEY_HEADERS,
) -> RoutingContext:
    """The context of a client's request.

    Args:
        model: The model that serves it.
        fields: The top-level fields of its body.
        headers: Its headers by lower-case name.
        key_headers: Headers that may have the routing key; the first with a usable value counts.
    """
    hints = read_hints(fields)
    return RoutingContext(
        prompt=prompt_prefix(fields),
        routing_key=_first_key(headers, key_headers) or hints.session or _first_key(headers, SESSION_HEADERS),
        client=next((headers[name] for name in CLIENT_HEADERS if headers.get(name)), None),
        target_worker=headers.get(TARGET_HEADER, b"").decode("latin-1") or None,
        model=model,
        expected_tokens=hints.expected_tokens,
    )


def _first_key(headers: Mapping[bytes, bytes], names: Sequence[bytes]) -> bytes | None:
    for name in names:
        if name in headers and 0 < len(headers[name]) <= MAX_KEY_BYTES:
            return headers[name]
    return None
