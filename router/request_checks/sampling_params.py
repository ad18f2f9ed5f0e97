"""Where sampling fields stand in a request's body."""

from collections.abc import Iterator, Mapping
from typing import Any


def sampling_params(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The body's fields, for OpenAI's API, and what is in `sampling_params`, which is a list for a batch.

    What is no object there is left out; the server refuses it.
    """
    yield fields
    given = fields.get("sampling_params")
    for params in given if isinstance(given, list) else (given,):
        if isinstance(params, dict):
            yield params
