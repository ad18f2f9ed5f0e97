"""Refuses null characters in regular expressions, also in those of JSON schemas.

xgrammar 0.2.1, which SGLang 0.5.17 requires, crashes on some of them and refuses most of the others.
"""

import json
from typing import Any

from router.errors import BadRequest
from router.http.body import Body
from router.request_checks.sampling_params import sampling_params

WITH_SCHEMAS = ("json_schema", "structural_tag", "response_format", "tools")
MAX_NODES = 50_000  # parts of schemas that are checked, which takes tens of milliseconds


def check_null_patterns(body: Body) -> None:
    """Raise `BadRequest` if a pattern in a body has a null character, or if the body has too many parts to check.

    Nearly every body has no null character at all, and costs nothing here. Others are parsed as a whole, since the
    fields of a long body have only the beginning of long values.
    """
    if not body.may_have_nulls:
        return
    left = MAX_NODES
    for params in sampling_params(body.all_fields()):
        regex = params.get("regex")
        if isinstance(regex, str) and "\0" in regex:
            raise BadRequest(_refusal("regex"))
        for name in WITH_SCHEMAS:
            left = _check_patterns(name, params.get(name), left)


def _refusal(name: str) -> str:
    return f"`{name}` has a pattern with a null character, which no grammar can have; leave it out."


def _check_patterns(name: str, value: Any, left: int) -> int:
    """Check the patterns in a field of at most `left` parts; returns how many parts may follow in other fields."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return left  # the server refuses it
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            left -= len(node)
            children = node
        elif isinstance(node, dict):
            left -= len(node)
            of_properties = node.get("patternProperties")
            patterns = [node.get("pattern"), *(of_properties if isinstance(of_properties, dict) else ())]
            if any(isinstance(each, str) and "\0" in each for each in patterns):
                raise BadRequest(_refusal(name))
            children = list(node.values())
        else:
            continue
        if left < 0:
            raise BadRequest(f"`{name}` has over {MAX_NODES} parts, and the body a null character; leave that out.")
        waiting += children
    return left
