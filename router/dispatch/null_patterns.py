"""Null characters in regular expressions, also in those of JSON schemas: xgrammar 0.2.1 crashes on some.

It refuses all others, so that nothing that works is lost. SGLang 0.5.17 requires that version.
"""

import json
from collections.abc import Mapping
from typing import Any

from router.errors import BadRequest

ESCAPED = "\\u0000"  # in JSON
WITH_SCHEMAS = ("json_schema", "structural_tag", "response_format", "tools")


def check_null_patterns(params: Mapping[str, Any]) -> None:
    """Raise `BadRequest` if a pattern among the sampling fields has a null character."""
    regex = params.get("regex")
    if isinstance(regex, str) and "\0" in regex:
        raise BadRequest(_refusal("regex"))
    for name in WITH_SCHEMAS:
        value = params.get(name)
        if value and _has_null_pattern(value):
            raise BadRequest(_refusal(name))


def _refusal(name: str) -> str:
    return f"`{name}` has a pattern with a null character, which no grammar can have; leave it out."


def _has_null_pattern(value: Any) -> bool:
    if isinstance(value, str):
        if ESCAPED not in value:
            return False
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return False  # the server refuses it
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            of_properties = node.get("patternProperties")
            patterns = [node.get("pattern"), *(of_properties if isinstance(of_properties, dict) else ())]
            if any(isinstance(each, str) and "\0" in each for each in patterns):
                return True
            waiting += node.values()
    return False
