"""Reading the events of `/generate`: each repeats the whole answer, and only what is new is parsed."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import UpstreamFailed
from router.moa.generate_events import GenerateReader, read_event
from tests.router.support.parsed_bytes import counted


def event(
    texts: list[str] | None, ids: list[int], finish: Any = None, *, logprobs: bool = True, **meta: Any
) -> dict[str, Any]:
    """One event, in SGLang's form and order; without a tokenizer it has no text."""
    told: dict[str, Any] = {} if texts is None else {"text": "".join(texts)}
    counts = {"completion_tokens": len(ids), "cached_tokens": 3, "e2e_latency": 0.5}
    values = {"output_token_logprobs": [[-0.5, token, None] for token in ids]} if logprobs else {}
    first = {"id": "x", "finish_reason": finish, "prompt_tokens": 11}
    return {**told, "output_ids": ids, "meta_info": {**first, **values, **counts, **meta}}


def stream(texts: list[str] | None, ids: list[int], **more: Any) -> list[dict[str, Any]]:
    """An answer token by token; the last event tells why it ended."""
    events = [event(texts and texts[:n], ids[:n], **more) for n in range(1, len(ids))]
    return [*events, event(texts, ids, {"type": "stop", "matched": ids[-1]}, **more)]


TEXT = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from('"\\]},:[{\n')), max_size=6)
TOKENS = st.lists(st.tuples(TEXT, st.integers(0, 200_000)), min_size=1, max_size=12)


@given(TOKENS, st.booleans(), st.booleans(), st.booleans())
def test_each_event_reads_as_it_would_alone(
    tokens: list[tuple[str, int]], logprobs: bool, without_text: bool, spaced: bool
) -> None:
    texts, ids = [text for text, _ in tokens], [token for _, token in tokens]
    reader = GenerateReader("a")
    for each in stream(None if without_text else texts, ids, logprobs=logprobs):
        raw = orjson.dumps(each, option=orjson.OPT_INDENT_2) if spaced else orjson.dumps(each)
        assert reader.read(raw) == read_event(raw, "a")


@given(st.lists(st.tuples(TEXT, st.lists(st.integers(0, 50), max_size=4)), max_size=8))
def test_events_that_do_not_go_on_with_the_one_before(answers: list[tuple[str, list[int]]]) -> None:
    """As when text is taken back; and numbers that begin with the one before."""
    reader = GenerateReader("a")
    for text, ids in answers:
        raw = orjson.dumps(event([text], ids))
        assert reader.read(raw) == read_event(raw, "a")


@pytest.mark.parametrize("without_text", [False, True])
def test_a_long_answer_is_parsed_once(without_text: bool) -> None:
    """Two events are parsed whole, the first and the last; of the others only what is new."""
    size = 600
    texts = None if without_text else [' w"é\n'] * size
    events = [orjson.dumps(each) for each in stream(texts, [*range(1000, 1000 + size)])]
    reader = GenerateReader("a")
    with counted() as parsed_bytes:
        for raw in events:
            progress = reader.read(raw)
    assert progress == read_event(events[-1], "a")
    assert len(progress.logprobs) == size
    assert parsed_bytes() < 2 * len(events[-1])
    assert sum(map(len, events)) > 100 * parsed_bytes()


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ({"error": {"message": "out of memory"}}, "agent a failed while it answered: out of memory"),
        (event(["x", "y"], [1, 2], {"type": "abort", "message": "gone"}), r"its worker aborted it \(gone\)"),
        ({"text": "xy", "output_ids": [1, 2]}, "not in SGLang's form"),
        ({"text": "xy", "output_ids": [1, 2], "meta_info": None}, "not in SGLang's form"),
        ([], "not in SGLang's form"),
    ],
)
def test_what_ends_an_answer_early_is_seen(last: Any, words: str) -> None:
    reader = GenerateReader("a")
    reader.read(orjson.dumps(event(["x"], [1])))
    with pytest.raises(UpstreamFailed, match=words):
        reader.read(orjson.dumps(last))


@pytest.mark.parametrize(
    "changed",
    [
        lambda each: {"output_ids": each["output_ids"], "text": each["text"], "meta_info": each["meta_info"]},
        lambda each: {"meta_info": each["meta_info"], "text": each["text"], "output_ids": each["output_ids"]},
        lambda each: {"text": each["text"], "x": [1], "output_ids": each["output_ids"], "meta_info": each["meta_info"]},
        lambda each: {**each, "error": None},
    ],
)
def test_other_orders_of_the_keys(changed: Any) -> None:
    reader = GenerateReader("a")
    for each in stream(["one", " two", " three"], [5, 6, 7]):
        raw = orjson.dumps(changed(each))
        assert reader.read(raw) == read_event(raw, "a")
