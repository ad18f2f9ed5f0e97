"""Refuses requests whose fields do not fit together: SGLang 0.5.17 answers them with 500.

A list with fewer values than prompts, an empty one, or a value where a list is expected breaks the code that brings a
request into one form. It raises whatever comes of that, and only a `ValueError` is answered with 400. A router takes a
500 for the server's failure, asks another one, and in the end uses none.
"""

from collections.abc import Callable
from typing import TypeVar

from sglang_ext.upstream.request import HttpRequest

Result = TypeVar("Result")
OF_MISFITS = (AssertionError, AttributeError, IndexError, KeyError, TypeError)


def refuse_misfits(original: Callable[..., Result], obj: HttpRequest, *args: object) -> Result:
    """AROUND `normalize_batch_and_arguments` and `__getitem__` of requests: a `ValueError` is answered with 400."""
    try:
        return original(obj, *args)
    except OF_MISFITS as error:
        told = f"{type(error).__name__}: {error}"[:200]
        raise ValueError(
            f"the request's fields do not fit together ({told}); give each list one value for each prompt."
        ) from error
