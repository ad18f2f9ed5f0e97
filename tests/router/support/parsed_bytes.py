"""How much of a stream's events is parsed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import orjson

from router.moa import generate_events


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Within it, a function that tells how many bytes of `/generate` events were parsed."""
    parsed = 0

    def loads(text: bytes) -> Any:
        nonlocal parsed
        parsed += len(text)
        return orjson.loads(text)

    with mock.patch.object(generate_events, "orjson", SimpleNamespace(loads=loads)):
        yield lambda: parsed
