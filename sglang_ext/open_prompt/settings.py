"""What an operator may set for open prompts, as environment variables."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from sglang_ext.errors import BadSetting


def enabled() -> bool:
    """Whether SGLANG_EXT_OPEN_PROMPTS allows open prompts; 0 leaves SGLang's scheduling untouched."""
    return os.environ.get("SGLANG_EXT_OPEN_PROMPTS", "1") != "0"


@dataclass(frozen=True)
class Settings:
    """One server's settings.

    Attributes:
        kv_fraction: Of the KV pool, for pinned pages: SGLANG_EXT_OPEN_PROMPT_KV_FRACTION.
        ttl: Seconds for which a prompt is kept without a request: SGLANG_EXT_OPEN_PROMPT_TTL.
        segment_chunk: Tokens of a batch of segments, at most: SGLANG_EXT_SEGMENT_CHUNK.
    """

    kv_fraction: float = 0.3
    ttl: float = 60.0
    segment_chunk: int = 512

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read all; raises `BadSetting` when a value is invalid."""
        kv_fraction = _number(
            "SGLANG_EXT_OPEN_PROMPT_KV_FRACTION", cls.kv_fraction, lambda x: 0 <= x < 1, "from 0 to below 1"
        )
        ttl = _number("SGLANG_EXT_OPEN_PROMPT_TTL", cls.ttl, lambda x: x > 0, "of seconds above 0")
        chunk = _number("SGLANG_EXT_SEGMENT_CHUNK", cls.segment_chunk, lambda x: x >= 1, "of tokens from 1 up")
        return cls(kv_fraction, ttl, int(chunk))


def _number(name: str, default: float, is_valid: Callable[[float], bool], valid_range: str) -> float:
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = float("nan")
    if not is_valid(value):
        raise BadSetting(f"{name} is {text!r}, but must be a number {valid_range}.")
    return value
