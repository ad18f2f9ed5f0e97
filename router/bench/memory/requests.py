"""The requests of the mixed load: of several kinds, and no two with the same prompt."""

import random
from dataclasses import dataclass
from typing import Any

import orjson

from router.bench.fake_responses import MODEL

# Of each hundred requests; the others are short chats.
GENERATE, LONG_CHATS, STREAMS, LEAVING = 30, 4, 15, 6
SHORT, LONG = 2_000, 100_000  # bytes of a chat's words, at most
SYSTEM_PROMPTS = 20
STREAM_TOKENS = 200


@dataclass(frozen=True)
class Request:
    """One request; with `leaves` its client goes away after the first token."""

    path: str
    body: bytes
    leaves: bool = False


def draw(chance: random.Random) -> Request:
    """The next request."""
    kind = chance.randrange(100)
    if kind < GENERATE:
        return _request("/generate", text=_words(chance, SHORT), sampling_params={"max_new_tokens": 8})
    kind -= GENERATE
    if kind < LEAVING + STREAMS:
        # The fake servers stream so many tokens; who leaves does so long before the last one.
        tick = 20_000 if kind < LEAVING else 0
        text = f"tokens={STREAM_TOKENS} tick={tick} {_words(chance, SHORT)}"
        return _request("/generate", leaves=kind < LEAVING, text=text, stream=True)
    system = f"You are helper {chance.randrange(SYSTEM_PROMPTS)}. " * 20
    words = _words(chance, LONG if kind < LEAVING + STREAMS + LONG_CHATS else SHORT)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": words}]
    return _request("/v1/chat/completions", model=MODEL, messages=messages, max_tokens=8)


def _request(path: str, *, leaves: bool = False, **fields: Any) -> Request:
    return Request(path, orjson.dumps(fields), leaves)


def _words(chance: random.Random, most: int) -> str:
    """Up to so many bytes, and at least a tenth of them."""
    return chance.randbytes(chance.randint(most // 20, most // 2)).hex()
