"""Patterns with a null character are refused wherever they stand in a body, of whatever length."""

import json
from typing import Any

import pytest

from router.errors import BadRequest
from router.http.body import read_body
from router.request_checks import null_patterns
from router.request_checks.null_patterns import check_null_patterns
from tests.router.support.aio import aio
from tests.router.support.fakes import FakePair
from tests.router.support.serving import serving

LONG = "y" * 70_000  # more than is parsed of a value in a long body
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("regex", {"regex": "\0"}),
    ("regex", {"regex": "a\0b"}),
    ("json_schema", {"json_schema": '{"pattern":"\\u0000a"}'}),
    ("json_schema", {"json_schema": '{"anyOf":[{"patternProperties":{"\\u0000":{}}}]}'}),
    ("structural_tag", {"structural_tag": '{"format":{"type":"regex","pattern":"\\u0000"}}'}),
    ("response_format", {"response_format": {"type": "json_schema", "json_schema": {"schema": {"pattern": "\0"}}}}),
    ("tools", {"tools": [{"type": "function", "function": {"parameters": {"pattern": "\0"}}}]}),
    ("regex", {"regex": LONG + "\0"}),
    ("json_schema", {"json_schema": json.dumps({"anyOf": [{"description": LONG}, {"pattern": "\0a"}]})}),
    ("tools", {"tools": [{"description": LONG}, {"pattern": "\0"}]}),
]
TAKEN: list[dict[str, Any]] = [
    {"json_schema": '{"const":"\\u0000"}'},
    {"json_schema": '{"const":"\\u0000"'},
    {"tools": [{"type": "function", "function": {"description": "\0", "parameters": {"pattern": "a"}}}]},
    {"prompt": "\0", "tools": [{"description": LONG}]},
    {"prompt": "\0", "json_schema": "not JSON"},
]


@pytest.mark.parametrize("around", [dict, lambda params: {"sampling_params": params}], ids=["on top", "within"])
@pytest.mark.parametrize(("field", "params"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_what_crashes_a_server_is_refused(field: str, params: dict[str, Any], around: Any) -> None:
    with pytest.raises(BadRequest, match=f"^`{field}` has a pattern with a null character"):
        check_null_patterns(read_body(json.dumps(around(params)).encode()))


@pytest.mark.parametrize("params", TAKEN, ids=[str(number) for number in range(len(TAKEN))])
def test_other_null_characters_are_taken(params: dict[str, Any]) -> None:
    check_null_patterns(read_body(json.dumps(params).encode()))


def test_it_looks_at_so_much_and_no_more() -> None:
    many: list[dict[str, Any]] = [{} for _ in range(null_patterns.MAX_NODES + 1)]
    check_null_patterns(read_body(json.dumps({"tools": many}).encode()))
    with pytest.raises(BadRequest, match="`tools` has over 50000 parts"):
        check_null_patterns(read_body(json.dumps({"tools": many, "prompt": "\0"}).encode()))


@aio
async def test_no_server_gets_them() -> None:
    pair, tools = FakePair(), {"tools": [{"description": LONG}, {"pattern": "\0"}]}
    async with serving(pair) as router:
        chat = await router.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], **tools})
        native = await router.post("/generate", {"text": "a", "sampling_params": {"regex": "\0"}})
        assert (chat.status_code, native.status_code) == (400, 400)
    assert not pair.prefill.requests
