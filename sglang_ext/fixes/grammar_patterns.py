"""Null characters in the patterns of grammars: xgrammar 0.2.1, which SGLang 0.5.17 requires, crashes on some.

It refuses all others, so that nothing that works is lost.
"""

import json
from typing import Any

ESCAPED = "\\u0000"  # in JSON


def check_grammar_patterns(params: dict[str, Any]) -> None:
    """Raise `ValueError` if a regular expression, or one in a JSON schema, has a null character."""
    if "\0" in (params.get("regex") or ""):
        raise ValueError(_refusal("regex"))
    for name in ("json_schema", "structural_tag"):
        text = params.get(name)
        if isinstance(text, str) and ESCAPED in text and _has_null_pattern(text):
            raise ValueError(_refusal(name))


def _refusal(name: str) -> str:
    return f"`{name}` has a pattern with a null character, which no grammar can have; leave it out."


def _has_null_pattern(text: str) -> bool:
    try:
        waiting = [json.loads(text)]
    except (ValueError, RecursionError):
        return False  # SGLang refuses it
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
