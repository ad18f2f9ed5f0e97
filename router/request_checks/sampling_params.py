"""Where sampling fields stand in a request's body."""

from collections.abc import Mapping, Sequence
from typing import Any


def sampling_params(fields: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The body itself, where OpenAI's API has them, and each object in `sampling_params`, a list for a batch."""
    given = fields.get("sampling_params")
    if isinstance(given, dict):
        return fields, given
    of_batch = given if isinstance(given, list) else ()
    return fields, *(params for params in of_batch if isinstance(params, dict))
