"""How many tokens an answer has, found without parsing the response."""

import re

_COMPLETION_TOKENS = re.compile(rb'"completion_tokens":\s*(\d{1,9})')
USAGE_BYTES = 4_096  # at the end of a response, in which its usage stands
_EVENT = b"data:"


def tokens_of_response(body: bytes) -> int | None:
    """The tokens of a whole response, by its usage; None if it has none."""
    found = _COMPLETION_TOKENS.search(body, max(len(body) - USAGE_BYTES, 0))
    return int(found[1]) if found else None


def tokens_of_chunk(chunk: bytes) -> int:
    """The tokens of a part of a stream: servers send an event for each."""
    return chunk.count(_EVENT)
