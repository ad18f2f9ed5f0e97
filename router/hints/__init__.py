"""Hints of clients: what a request says of its session, its importance and its length, by the field's usual names."""

from router.hints.known_hints import HINTS, SESSION_HEADERS, Effect, Hint
from router.hints.reading import (
    MAX_KEY_BYTES,
    NO_HINTS,
    Hints,
    check_hints,
    given_hints,
    is_usable,
    may_have_hints,
    read_hints,
)

__all__ = [
    "HINTS",
    "MAX_KEY_BYTES",
    "NO_HINTS",
    "SESSION_HEADERS",
    "Effect",
    "Hint",
    "Hints",
    "check_hints",
    "given_hints",
    "is_usable",
    "may_have_hints",
    "read_hints",
]
