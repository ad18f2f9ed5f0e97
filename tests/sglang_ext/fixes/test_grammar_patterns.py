"""Patterns of grammars that end a server with xgrammar 0.2.1, refused by the overlay."""

from typing import Any

import pytest

from sglang_ext.fixes.grammar_patterns import check_grammar_patterns

REFUSED: list[dict[str, Any]] = [
    {"regex": "\0"},
    {"regex": "a\0b"},
    {"json_schema": '{"type":"string","pattern":"\\u0000a"}'},
    {"json_schema": '{"anyOf":[{"patternProperties":{"\\u0000":{}}}]}'},
    {"structural_tag": '{"format":{"type":"regex","pattern":"\\u0000"}}'},
]
TAKEN: list[dict[str, Any]] = [
    {},
    {"regex": None, "json_schema": None},
    {"regex": r"\x00"},
    {"json_schema": '{"const":"\\u0000"}'},
    {"json_schema": '{"pattern":"\\u0000"'},
    {"json_schema": '{"pattern":["\\u0000"],"patternProperties":1}'},
    {"ebnf": 'root ::= "\0"'},
]


@pytest.mark.parametrize("params", REFUSED, ids=str)
def test_a_pattern_with_a_null_character_is_refused(params: dict[str, Any]) -> None:
    (name,) = params
    with pytest.raises(ValueError, match=f"`{name}` has a pattern with a null character"):
        check_grammar_patterns(params)


@pytest.mark.parametrize("params", TAKEN, ids=str)
def test_other_grammars_are_left_to_sglang(params: dict[str, Any]) -> None:
    check_grammar_patterns(params)
