"""Where sampling fields stand in a request's body."""

from collections.abc import Iterator, Mapping
from typing import Any


def sampling_params(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The body itself, where OpenAI's API has them, and each object in `sampling_params`, a list for a batch."""
    yield fields
    given = fields.get("sampling_params")
    for params in given if isinstance(given, list) else (given,):
        if isinstance(params, dict):
            yield params
