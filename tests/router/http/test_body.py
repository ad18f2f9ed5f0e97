"""Bodies: what is seen of a long one without parsing it, and what is sent of it."""

import json
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import BadRequest
from router.http.body import LONG_BODY, Body, LongBody, read_body
from router.http.body.json_body import MAX_PREFIX
from router.http.body.json_scanner import JsonScanner, ScanError
from router.request_checks.batches import batch_size

strings = st.text() | st.text('"\\[]{},: \n\té😀\ud7ff', max_size=30)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | strings,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(strings, values, max_size=6)


@st.composite
def texts(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """An object and one of the ways to write it."""
    value = draw(objects)
    space = draw(st.sampled_from(["", " ", "\n\t", "\r\n  "]))
    written = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.none() | st.integers(0, 2)))
    return value, f"{space}{written}{space}".encode()


@given(texts())
def test_members_are_found(told: tuple[dict[str, Any], bytes]) -> None:
    value, raw = told
    found = JsonScanner(raw).members()
    assert {each.name: json.loads(raw[each.value_start : each.end]) for each in found} == value
    assert [json.loads(b"{%b}" % raw[each.start : each.end]) for each in found] == [{k: v} for k, v in value.items()]


@given(texts(), st.binary(max_size=3), st.data())
def test_what_is_no_object_is_noticed_or_left_to_the_workers(
    told: tuple[dict[str, Any], bytes], noise: bytes, data: st.DataObject
) -> None:
    """Never more than the text says: a member is found only where a parser would find it."""
    _, raw = told
    at = data.draw(st.integers(0, len(raw)))
    cut = data.draw(st.integers(at, len(raw)))
    raw = raw[:at] + noise + raw[cut:]
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError:
        parsed = None
    try:
        found = JsonScanner(raw).members()
    except ScanError:
        assert not isinstance(parsed, dict)
    else:
        # Without a parsed object to hold it against, what is wrong is inside a value.
        assert parsed is None or {each.name for each in found} == set(parsed)


@settings(max_examples=2 * settings().max_examples)
@given(texts(), objects, st.lists(strings, max_size=2))
def test_what_is_sent(told: tuple[dict[str, Any], bytes], own: dict[str, Any], dropped: list[str]) -> None:
    """A long body says what a parsed one does."""
    value, raw = told
    kept = {key: each for key, each in value.items() if key not in dropped}
    for body in (LongBody(raw), Body(dict(value))):
        sent = json.loads(body.render(own, dropped))
        assert sent == {**kept, **own}
        for name in dropped:
            body.remove(name)
        assert json.loads(body.render({})) == kept
        assert body.all_fields() == kept


LONG_TEXT = "Say \"it\\' again, é😀. " * 9000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("text", LONG_TEXT),
        ("text", [LONG_TEXT, "short", LONG_TEXT]),
        ("sampling_params", [{"n": 1, "stop": ["x" * 900]}] * 200),
        ("input_ids", list(range(60_000))),
        ("input_ids", [list(range(60_000)), [1, 2]]),
        ("messages", [{"role": "user", "content": LONG_TEXT}, {"role": "user", "content": "b"}]),
        ("messages", [{"role": "user", "content": [{"type": "text", "text": LONG_TEXT}]}]),
        ("messages", [{"role": "user", "content": f"message {i} " * 9} for i in range(1000)]),
    ],
)
def test_the_begin_of_a_long_body(key: str, value: Any) -> None:
    raw = orjson.dumps({"model": "m", key: value, "stream": True})
    body = read_body(raw)
    assert isinstance(body, LongBody)
    assert (body.fields["model"], body.fields["stream"]) == ("m", True)
    assert begins(body.fields[key], value)
    assert 50_000 < len(orjson.dumps(body.fields[key])) < 90_000 or (
        key == "sampling_params" and body.fields[key] == value
    )
    assert body.all_fields() == orjson.loads(raw)


def begins(part: Any, whole: Any) -> bool:
    """Whether one value is the other, but for ends that are cut off."""
    if isinstance(part, str):
        return isinstance(whole, str) and whole.startswith(part)
    if isinstance(part, list) and isinstance(whole[0], int):
        return bool(part == whole[: len(part)])
    if isinstance(part, list):  # as long as the whole
        return len(part) == len(whole) and all(
            each is None or begins(each, of) for each, of in zip(part, whole, strict=True)
        )
    if isinstance(part, dict):
        return all(begins(each, whole[key]) for key, each in part.items())
    return bool(part == whole)


@pytest.mark.parametrize("value", ['["a", "b"]', '["a"%s, "b"]', "[[1, 2]%s, [3]]"])
def test_space_hides_no_prompt(value: str) -> None:
    """A batch gets a room for each of its prompts, whatever stands between them."""
    space = " " * 2 * MAX_PREFIX
    body = read_body(f'{{"text": [{space}{value[1:].replace("%s", space)}}}'.encode())
    assert isinstance(body, LongBody)
    assert batch_size(body.fields, "/generate") == 2


class Searched(bytes):
    """Counts the bytes that `find` looks at."""

    searched = 0

    def find(self, what: Any, start: Any = 0, end: Any = None) -> int:
        found = super().find(what, start, end)
        self.searched += (found if found >= 0 else len(self) if end is None else end) - start
        return found


@pytest.mark.parametrize("each", ["{}", '{"role": "user"}', '["]"]', "[}", "[[}]"])
def test_a_bracket_is_not_searched_for_beyond_its_value(each: str) -> None:
    """Else the time that a long body takes would grow with its length times its number of values."""
    raw = Searched(f'{{"messages": ["{"x" * MAX_PREFIX}", {f"{each}," * 1000}"{"x" * LONG_BODY}"]}}'.encode())
    with suppress(ScanError):
        (member,) = JsonScanner(raw).members()
        JsonScanner(raw).prefix(member.value_start, member.end, MAX_PREFIX)
    assert raw.searched < 10 * len(raw)


@pytest.mark.claim("bootstrap-is-not-chosen")
def test_a_reserved_field_cannot_hide() -> None:
    """Neither behind an escape, nor as a second one of its name."""
    filler = b" " * LONG_BODY
    hidden = read_body(rb'{"text": "x", "bootstrap\u005fhost": "10.0.0.1"' + filler + b"}")
    assert hidden.fields["bootstrap_host"] == "10.0.0.1"
    twice = read_body(b'{"rid": "a", "text": "x", "rid": null, "rid": "b"' + filler + b"}")
    assert twice.fields["rid"] == "b"
    assert orjson.loads(twice.render({"rid": "ours"})) == {"text": "x", "rid": "ours"}
    assert twice.render({"rid": "ours"}).count(b"rid") == 1


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"[" + b" " * LONG_BODY + b"]", "must be a JSON object, not a list"),
        (b"{" + b" " * LONG_BODY, "the body is not JSON"),
        (b'{"text": "' + b"x" * LONG_BODY, "the body is not JSON"),
        (b'{"text": "' + b"x" * LONG_BODY + b'\\"}', "the body is not JSON"),
        (b'{"text": "' + b"x" * LONG_BODY + b'"} {}', "the body is not JSON"),
        (b'{"text": [' + b"1," * LONG_BODY + b"1}", "the body is not JSON"),
        (b'{"text": ' + b"x" * LONG_BODY + b"}", "the body is not JSON"),
        ('{"text": "x"}'.encode("utf-16") + b" " * LONG_BODY, "the body is not JSON"),
    ],
)
def test_long_bodies_that_are_none(raw: bytes, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        read_body(raw)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'{"a": [' + b"[]," * 100_000 + b"[]]}", Body),
        (b'{"a": ["b"' + b",1" * 100_000 + b"]}", Body),
        (b"{" + b",".join(b'"%d":1' % i for i in range(100_000)) + b"}", Body),
        (b'{"a": "' + b'\\"' * 500_000 + b'"}', LongBody),
        (b'{"a": "' + b"\\\\" * 500_000 + b'"}', LongBody),
        (b'{"a": ' + b"[" * 200 + b'"%b"' % (b"x" * 70_000) + b"]" * 200 + b"}", Body),
    ],
    ids=["brackets", "numbers", "members", "quotes", "backslashes", "depth"],
)
def test_intricate_bodies_are_parsed(raw: bytes, kind: type[Body]) -> None:
    """Looking at every bracket in Python would stop the event loop; a string's escapes cost nothing."""
    body = read_body(raw)
    assert type(body) is kind
    assert body.all_fields() == orjson.loads(raw)
