"""Prefill's log-probabilities of the prompt in decode's response. What real servers answer is in tests/e2e."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from router.dispatch.prefill_logprobs import stream_with_prefill_logprobs, wants_prefill_logprobs, with_prefill_logprobs
from router.errors import UpstreamFailed

GENERATE, COMPLETIONS = "/generate", "/v1/completions"


def choice(index: int, *tokens: str) -> dict[str, Any]:
    logprobs = [None if token == "first" else -1.0 for token in tokens]
    tops = [None if token == "first" else {token: -1.0} for token in tokens]
    lists = {"tokens": list(tokens), "token_logprobs": logprobs, "top_logprobs": tops}
    lists["text_offset"] = [-1] * len(tokens)
    return {"index": index, "text": "".join(tokens), "logprobs": lists}


def completion(prompt_tokens: int, *choices: dict[str, Any]) -> bytes:
    return orjson.dumps({"choices": choices, "usage": {"prompt_tokens": prompt_tokens}})


def read_stream(path: str, prefill: bytes, *chunks: bytes) -> list[Any]:
    async def lines() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def read() -> bytes:
        return b"".join([chunk async for chunk in stream_with_prefill_logprobs(path, lines(), prefill)])

    events = [line.removeprefix(b"data: ") for line in asyncio.run(read()).split(b"\n\n") if line]
    return [event if event == b"[DONE]" else orjson.loads(event) for event in events]


@pytest.mark.parametrize(
    ("path", "fields", "wanted"),
    [
        (GENERATE, {"return_logprob": True, "logprob_start_len": 0}, True),
        (GENERATE, {"return_logprob": [False, True], "logprob_start_len": [-1, 3]}, True),
        (GENERATE, {"return_logprob": True}, False),
        (GENERATE, {"return_logprob": True, "logprob_start_len": -1}, False),
        (GENERATE, {"logprob_start_len": 0}, False),
        (GENERATE, {"return_logprob": True, "token_ids_logprob": [0]}, True),
        (GENERATE, {"return_logprob": True, "token_ids_logprob": [None, [5]]}, True),
        (GENERATE, {"return_logprob": True, "token_ids_logprob": None}, False),
        (GENERATE, {"token_ids_logprob": [5]}, False),
        (COMPLETIONS, {"echo": True, "logprobs": 1}, True),
        (COMPLETIONS, {"echo": False, "logprobs": 1}, False),
        (COMPLETIONS, {"echo": True}, False),
        ("/v1/chat/completions", {"echo": True, "logprobs": True}, False),
    ],
)
def test_who_asks_for_them(path: str, fields: dict[str, Any], wanted: bool) -> None:
    assert wants_prefill_logprobs(path, fields) is wanted


def test_completions_get_the_prompt_before_the_answer() -> None:
    prefill = completion(5, choice(1, "first", "x", "y", "sampled"), choice(0, "first", "b", "sampled"))
    decode = completion(5, choice(0, "c", "d"), choice(1, "z"))
    merged = orjson.loads(with_prefill_logprobs(COMPLETIONS, decode, prefill))["choices"]
    assert [each["logprobs"]["tokens"] for each in merged] == [["first", "b", "c", "d"], ["first", "x", "y", "z"]]
    assert merged[0]["logprobs"] == choice(0, "first", "b", "c", "d")["logprobs"]


def test_a_prefill_server_that_sampled_nothing_loses_no_token() -> None:
    merged = with_prefill_logprobs(COMPLETIONS, completion(2, choice(0, "c")), completion(2, choice(0, "first", "b")))
    assert orjson.loads(merged)["choices"][0]["logprobs"]["tokens"] == ["first", "b", "c"]


def test_the_first_event_of_each_choice_gets_them() -> None:
    prefill = completion(3, choice(0, "first", "b", "sampled"), choice(1, "first", "sampled"))
    events = [{"choices": [choice(index, token)]} for index, token in ((1, "z"), (0, "c"), (0, "d"))]
    raw = b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events)
    merged = read_stream(COMPLETIONS, prefill, raw, b"data: [DONE]\n\n")
    tokens = [each["choices"][0]["logprobs"]["tokens"] for each in merged[:3]]
    assert tokens == [["first", "z"], ["first", "b", "c"], ["d"]]
    assert merged[3] == b"[DONE]"


def test_each_event_of_generate_gets_them_and_texts_are_left_alone() -> None:
    prompt = [[None, 1, "a"], [-1.0, 2, "b"]]
    prefill = orjson.dumps([{"meta_info": {"input_token_logprobs": each}} for each in (prompt, prompt[:1])])
    text = '"input_token_logprobs":[] and "index":7}'
    events: list[dict[str, Any]] = [
        {"text": text, "meta_info": {"input_token_logprobs": []}, "index": index} for index in (1, 0, 0)
    ]
    merged = read_stream(GENERATE, prefill, *[b"data: %b\n\n" % orjson.dumps(event) for event in events])
    assert [each["meta_info"]["input_token_logprobs"] for each in merged] == [prompt[:1], prompt, prompt]
    assert {each["text"] for each in merged} == {text}


NAMED = "output_token_ids_logprobs"


@pytest.mark.parametrize("of_first", [[], [None]])
def test_the_first_token_has_its_named_ones(of_first: list[None]) -> None:
    """Prefill samples it, and SGLang does not hand them to decode; the overlay has null there."""
    rows = [[[-1.5, 5, None]], [[-2.5, 5, None]], [[-3.5, 5, None]]]
    prefill = orjson.dumps([{"meta_info": {NAMED: rows[:1]}}, {"meta_info": {NAMED: None}}, {"meta_info": {}}])
    answers = [{"meta_info": {NAMED: [*of_first, *rows[1:]]}}, {"meta_info": {NAMED: None}}, {"meta_info": {}}]
    whole = orjson.loads(with_prefill_logprobs(GENERATE, orjson.dumps(answers), prefill))
    assert whole == [{"meta_info": {NAMED: rows}}, *answers[1:]]


def test_in_streams_it_has_them_where_there_is_a_place_for_them() -> None:
    """The overlay's decode has one; its events grow with the answer, or have new rows only."""
    rows = [[[-1.5, 5, None]], [[-2.5, 5, None]], [[-3.5, 5, None]]]
    prefill = orjson.dumps([{"meta_info": {NAMED: rows[:1]}}, {"meta_info": {NAMED: None}}])
    parts: tuple[list[Any], ...] = ([None], [None, rows[1]], [rows[2]], [])
    events = [{"meta_info": {NAMED: part}, "index": 0} for part in parts]
    events.append({"meta_info": {NAMED: [None]}, "index": 1})
    merged = read_stream(GENERATE, prefill, *[b"data: %b\n\n" % orjson.dumps(event) for event in events])
    assert [event["meta_info"][NAMED] for event in merged] == [rows[:1], rows[:2], rows[2:], [], [None]]


@pytest.mark.parametrize("prefill", [b"", b"[]", b'{"choices":[],"usage":{"prompt_tokens":3}}', b'{"choices":[{}]}'])
def test_answers_that_do_not_fit(prefill: bytes) -> None:
    with pytest.raises(UpstreamFailed, match="do not fit together"):
        with_prefill_logprobs(COMPLETIONS, completion(2, choice(0, "c")), prefill)
    with pytest.raises(UpstreamFailed, match="do not fit together"):
        read_stream(COMPLETIONS, prefill, b"data: %b\n\n" % orjson.dumps({"choices": [choice(0, "c")]}))
