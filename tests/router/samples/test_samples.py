"""Requests for several samples on pairs: an exchange for each, one response (the servers are fakes of SGLang's forms).

What a real pair and a plain server answer to the same request is compared in tests/e2e.
"""

import asyncio
from typing import Any

import orjson
import pytest

from router.dispatch.retries import RetrySettings
from router.errors import UpstreamFailed
from router.http.body import Body, read_body
from router.samples.merging import merged_response, merged_usage, stream_merger
from router.samples.sample_body import sample_body
from router.server.admission import AdmissionSettings
from router.server.settings import ServerSettings
from router.workers.circuit_breaker import CircuitBreakerSettings
from tests.router.support.aio import aio, run, until
from tests.router.support.fakes import Call, FakePair
from tests.router.support.raw import connected, post
from tests.router.support.serving import serving

GENERATE, COMPLETIONS, CHAT_PATH = "/generate", "/v1/completions", "/v1/chat/completions"
CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}], "n": 3}
QUICK = RetrySettings(max_retries=2, initial_backoff_ms=1)


def words(call: Call) -> list[str]:
    """The prompts of a request, in a list."""
    prompt = call.json.get("prompt") or call.json.get("text") or "hi"
    return prompt if isinstance(prompt, list) else [prompt]


def completion_choice(index: int, text: str, *tokens: str) -> dict[str, Any]:
    lists = {"tokens": list(tokens), "token_logprobs": [-1.0] * len(tokens)}
    lists |= {"top_logprobs": [None] * len(tokens), "text_offset": [-1] * len(tokens)}
    return {"index": index, "text": text, "logprobs": lists, "finish_reason": "stop"}


class SamplingPair(FakePair):
    """Answers in SGLang's forms; each request's answer has its number, from 0 on, as decode got them."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []  # what happened

    async def prefilled(self, call: Call) -> None:
        self.order.append("prefill")
        if not await call.waits_for(self.room(call)):
            return
        choices = [completion_choice(i, "", *word, "sampled") for i, word in enumerate(words(call))]
        usage = {"prompt_tokens": sum(len(word) for word in words(call))}
        await call.answer({"choices": choices, "usage": usage})
        self.order.append("prefilled")

    async def decoded(self, call: Call) -> None:
        number = len(self.decode.requests) - 1
        self.room(call).set()
        asked = call.json
        batch = isinstance(asked.get("text") or asked.get("prompt"), list)
        if call.path == GENERATE:
            answers = [
                {"text": f"{word}{number}", "meta_info": {"id": f"{asked['rid']}"}} | ({"index": i} if batch else {})
                for i, word in enumerate(words(call))
            ]
            if asked.get("stream"):
                await call.stream(*answers)
                await call.done()
            else:
                for answer in answers:
                    answer.pop("index", None)
                await call.answer(answers if batch else answers[0])
            return
        usage: dict[str, Any] = {"prompt_tokens": 5, "completion_tokens": 10 + number, "total_tokens": 15 + number}
        usage |= {"reasoning_tokens": number, "prompt_tokens_details": {"cached_tokens": number}}
        base = {"id": f"id-{number}", "model": "fake"}
        if asked.get("stream"):
            await call.stream(
                *({**base, "choices": [piece(i, f"{word}{number}")]} for i, word in enumerate(words(call))),
                {**base, "choices": [], "sglext": number},
                *([{**base, "choices": [], "usage": usage}] if asked.get("stream_options") else []),
            )
            await call.done()
            return
        choices = [completion_choice(i, f"{word}{number}", f"t{number}") for i, word in enumerate(words(call))]
        await call.answer({**base, "choices": choices, "usage": usage})


def piece(index: int, text: str) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text, "tool_calls": [{"index": 0}]}, "finish_reason": "stop"}


def payloads(raw: bytes) -> list[Any]:
    """The events of a stream, without `[DONE]`, which must be the last and the only one."""
    *events, end, rest = raw.split(b"\n\n")
    assert (end, rest) == (b"data: [DONE]", b"")
    return [orjson.loads(event.removeprefix(b"data: ")) for event in events]


def sent(pair: FakePair) -> list[dict[str, Any]]:
    """The bodies that decode got; prefill got the same rooms."""
    bodies = [call.json for call in pair.decode.requests]
    rooms = [body["bootstrap_room"] for body in bodies]
    assert sorted(map(str, rooms)) == sorted(str(call.json["bootstrap_room"]) for call in pair.prefill.requests)
    each = [room for given in rooms for room in (given if isinstance(given, list) else [given])]
    assert len(set(each)) == len(each), "no room is used twice"
    return bodies


@aio
async def test_samples_of_a_chat_are_one_response() -> None:
    pair, other = SamplingPair(), SamplingPair()
    async with serving(pair, other, policy="round_robin") as router:
        answer = (await router.post(CHAT_PATH, {**CHAT, "seed": 7, "rid": "mine"})).json()
        await router.settled()
        bodies = sent(pair) or sent(other)
    assert len(bodies) == 3, "all on one pair"
    assert answer["id"] == "id-0"
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert sorted(choice["text"] for choice in answer["choices"]) == ["hi0", "hi1", "hi2"]
    assert answer["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 33,
        "total_tokens": 38,
        "reasoning_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert [body["n"] for body in bodies] == [1, 1, 1]
    assert sorted(body["seed"] for body in bodies) == [7, 8, 9]
    assert bodies[0]["seed"] == 7, "the first is what one sample with this seed would be"
    assert len({body["rid"] for body in bodies}) == 3
    assert all(body["rid"].startswith("mine-") for body in bodies)


@aio
async def test_the_others_follow_when_the_prompt_is_cached() -> None:
    """As in one SGLang server; also while the first answer is being written."""
    pair = SamplingPair()
    first_may_end = asyncio.Event()
    well = pair.decoded

    async def decoded(call: Call) -> None:
        if len(pair.decode.requests) == 1:
            pair.room(call).set()
            assert await call.waits_for(first_may_end)
        await well(call)

    pair.decode.generate = decoded
    async with serving(pair) as router:
        asked = asyncio.create_task(router.post(CHAT_PATH, CHAT))
        await until(lambda: len(pair.decode.requests) == 3, "the others are sent before the first has ended")
        first_may_end.set()
        assert (await asked).status_code == 200
    assert pair.order[:2] == ["prefill", "prefilled"], "the others came later"


@aio
async def test_echo_and_log_probabilities_prompt_by_prompt() -> None:
    pair = SamplingPair()
    body = {"model": "fake", "prompt": ["ab", "c"], "n": 2, "echo": True, "logprobs": 1, "best_of": 2}
    async with serving(pair) as router:
        answer = (await router.post(COMPLETIONS, body)).json()
        sent(pair)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert [choice["text"][:-1] for choice in answer["choices"]] == ["ab", "ab", "c", "c"]
    for choice in answer["choices"]:
        assert choice["logprobs"]["tokens"] == [*choice["text"][:-1], f"t{choice['text'][-1]}"]


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("as_list", [False, True])
def test_generate_gives_a_list_prompt_by_prompt(batch: bool, as_list: bool) -> None:
    @aio
    async def test() -> None:
        pair = SamplingPair()
        text: Any = ["a", "b"] if batch else "a"
        params: Any = {"n": 2, "sampling_seed": 2**63 - 1}
        params = [params] * 2 if as_list and batch else params
        async with serving(pair) as router:
            whole = (await router.post(GENERATE, {"model": "fake", "text": text, "sampling_params": params})).json()
            bodies = sent(pair)
            streamed = await router.post(
                GENERATE, {"model": "fake", "text": text, "sampling_params": params, "stream": True}
            )
        assert [answer["text"][0] for answer in whole] == (["a", "a", "b", "b"] if batch else ["a", "a"])
        assert all("index" not in answer for answer in whole)
        of_first = [each["sampling_params"] for each in bodies]
        of_first = [each[0] if isinstance(each, list) else each for each in of_first]
        assert of_first == [{"n": 1, "sampling_seed": 2**63 - 1}, {"n": 1, "sampling_seed": 2**63 - 2}]
        events = payloads(streamed.content)
        found = {event["index"]: event["text"][0] for event in events}
        assert found == ({0: "a", 1: "a", 2: "b", 3: "b"} if batch else {0: "a", 1: "a"})
        assert len({event["meta_info"]["id"] for event in events}) == 2

    test()


@pytest.mark.parametrize("path", [CHAT_PATH, COMPLETIONS])
def test_streams_have_indexes_one_id_and_one_usage(path: str) -> None:
    @aio
    async def test() -> None:
        pair = SamplingPair()
        prompt = {"prompt": ["x", "y"]} if path == COMPLETIONS else {"messages": CHAT["messages"]}
        body = {"model": "fake", **prompt, "n": 2, "stream": True, "stream_options": {"include_usage": True}}
        async with serving(pair) as router:
            answer = await router.post(path, body)
            assert answer.headers["content-type"].startswith("text/event-stream")
            *pieces, extra, usage = payloads(answer.content)
            await router.settled()
        assert {event["id"] for event in (*pieces, extra, usage)} == {"id-0"}
        found = {choice["index"]: choice["delta"] for event in pieces for choice in event["choices"]}
        assert {index: delta["content"][0] for index, delta in found.items()} == (
            {0: "x", 1: "x", 2: "y", 3: "y"} if path == COMPLETIONS else {0: "h", 1: "h"}
        )
        assert all(delta["tool_calls"] == [{"index": 0}] for delta in found.values()), "those keep their own"
        assert extra == {"id": "id-0", "model": "fake", "choices": [], "sglext": 0}
        assert usage["usage"]["prompt_tokens"] == 5
        assert usage["usage"]["completion_tokens"] == 21
        assert usage["usage"]["total_tokens"] == 26

    test()


@pytest.mark.parametrize("failure", ["status", "status of a stream", "event of a stream"])
@pytest.mark.parametrize("at", [0, 2])
def test_one_that_fails_before_the_first_byte_repeats_all(failure: str, at: int) -> None:
    @aio
    async def test() -> None:
        pair = SamplingPair()
        well = pair.decoded

        async def decoded(call: Call) -> None:
            number = len(pair.decode.requests) - 1
            if number == at and failure == "event of a stream":
                pair.room(call).set()
                await call.stream({"error": {"message": "try again", "code": 503}})
                await call.done()
            elif number == at:
                pair.room(call).set()
                await call.answer({"error": {"message": "try again"}}, 503)
            elif number < at:
                pair.room(call).set()
                await call.waits_for(asyncio.Event())
            else:
                await well(call)

        pair.decode.generate = decoded
        async with serving(pair, retries=QUICK) as router:
            answer = await router.post(CHAT_PATH, {**CHAT, "stream": failure != "status"})
            assert answer.status_code == 200, answer.text
            assert b"try again" not in answer.content
            await router.settled()
            bodies = sent(pair)
            assert len(bodies) == at + 1 + 3
            first_time = sorted(body["rid"] for body in bodies[:-3])
            assert sorted(pair.prefill.aborted) == sorted(pair.decode.aborted) == first_time

    test()


@pytest.mark.parametrize("error", ["status", "event", "drop"])
def test_one_that_fails_later_ends_all(error: str) -> None:
    @aio
    async def test() -> None:
        pair = SamplingPair()
        begun = asyncio.Event()

        async def decoded(call: Call) -> None:
            number = len(pair.decode.requests) - 1
            pair.room(call).set()
            if number == 0:
                await call.stream({"id": "x", "choices": [piece(0, "one")]})
                await call.gone()
                return
            await begun.wait()
            if error == "status":
                await call.answer({"error": {"message": "too bad"}}, 503)
            elif error == "event":
                await call.stream({"error": {"message": "too bad", "code": 500}})
                await call.gone()
            else:
                call.drop()

        pair.decode.generate = decoded
        async with serving(pair, retries=QUICK) as router:
            async with router.http.stream("POST", CHAT_PATH, json={**CHAT, "n": 2, "stream": True}) as answer:
                lines = answer.aiter_lines()
                assert "one" in await anext(lines)
                begun.set()
                rest = [line async for line in lines if line]
            assert rest[-1] == "data: [DONE]"
            told = orjson.loads(rest[-2].removeprefix("data: "))["error"]["message"]
            assert "too bad" in told or error == "drop"
            await router.freed()
            assert len(pair.decode.requests) == 2, "nothing is sent again"
            assert len(set(pair.prefill.aborted)) == len(set(pair.decode.aborted)) >= 1

    test()


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_passed_on_and_ends_it(stream: bool) -> None:
    @aio
    async def test() -> None:
        pair = SamplingPair()

        async def decoded(call: Call) -> None:
            pair.room(call).set()
            if stream:
                await call.stream({"error": {"message": "no such thing", "code": 400}})
                await call.done()
            else:
                await call.answer({"error": {"message": "no such thing"}}, 400)

        pair.decode.generate = decoded
        async with serving(pair, retries=QUICK) as router:
            answer = await router.post(CHAT_PATH, {**CHAT, "stream": stream})
            assert answer.status_code == 400
            assert "no such thing" in answer.json()["error"]["message"]
            await router.settled()
        assert pair.decode.requests

    test()


@aio
async def test_the_last_error_is_passed_on() -> None:
    pair = SamplingPair()

    async def decoded(call: Call) -> None:
        pair.room(call).set()
        await call.answer({"error": "not now"}, 503)

    pair.decode.generate = decoded
    async with serving(pair, retries=QUICK) as router:
        answer = await router.post(CHAT_PATH, CHAT)
        assert (answer.status_code, answer.json()) == (503, {"error": "not now"})


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_aborts_all(stream: bool) -> None:
    @aio
    async def test() -> None:
        pair = SamplingPair()

        async def decoded(call: Call) -> None:
            pair.room(call).set()
            if stream:
                await call.stream({"id": "x", "choices": [piece(0, "one")]})
            await call.gone()

        pair.decode.generate = decoded
        async with serving(pair) as router:
            async with connected(router.port) as client:
                await client.send(post(CHAT_PATH, {**CHAT, "stream": stream}))
                await until(lambda: len(pair.decode.requests) == 3, "all three are sent")
                client.vanish()
                await until(lambda: not router.requests, "it is over")
            await router.freed()
            ids = {body["rid"] for body in sent(pair)}
            assert set(pair.prefill.aborted) == set(pair.decode.aborted) == ids
            assert len(ids) == 3

    test()


@aio
async def test_a_request_counts_as_its_samples() -> None:
    pair = SamplingPair()
    go = asyncio.Event()
    well = pair.decoded

    async def decoded(call: Call) -> None:
        pair.room(call).set()
        assert await call.waits_for(go)
        await well(call)

    pair.decode.generate = decoded
    async with serving(pair, limits=AdmissionSettings(max_concurrent=7, queue_size=2)) as router:
        gate = router.limits.gate
        assert gate is not None
        asked = asyncio.create_task(router.post(CHAT_PATH, CHAT))
        await until(lambda: len(pair.decode.requests) == 3, "all three are sent")
        assert gate.running == 3
        assert [worker.load.requests for worker in router.registry.workers if worker.role == "decode"] == [3]
        more = [asyncio.create_task(router.post(CHAT_PATH, {**CHAT, "n": n})) for n in (2, 3)]
        await until(lambda: gate.waiting == 1, "three more do not fit")
        assert gate.running == 5
        go.set()
        assert [answer.status_code for answer in await asyncio.gather(asked, *more)] == [200, 200, 200]
        assert gate.running == 0


@pytest.mark.parametrize("stream", [True, False])
def test_more_samples_than_half_the_limit_are_made_one_after_the_other(stream: bool) -> None:
    async def test() -> None:
        pair = SamplingPair()
        well = pair.decoded
        counted: set[int] = set()

        async def decoded(call: Call) -> None:
            assert router.limits.gate is not None
            counted.add(router.limits.gate.running)
            assert [each.load.requests for each in router.registry.workers if each.role == "decode"] <= [2]
            await well(call)

        pair.decode.generate = decoded
        async with serving(pair, limits=AdmissionSettings(max_concurrent=4)) as router:
            answer = await router.post(CHAT_PATH, {**CHAT, "n": 9, "stream": stream})
            assert answer.status_code == 200
            assert len(pair.decode.requests) == 9
            assert counted == {2}

    run(test)


@aio
async def test_a_half_open_breaker_lets_all_samples_through() -> None:
    pair = SamplingPair()
    well, all_there = pair.decoded, asyncio.Event()

    async def decoded(call: Call) -> None:
        pair.room(call).set()
        if len(pair.decode.requests) == 3:
            all_there.set()
        assert await call.waits_for(all_there), "the first has not ended when the others begin"
        await well(call)

    pair.decode.generate = decoded
    settings = CircuitBreakerSettings(failure_threshold=1, success_threshold=1)
    async with serving(pair, breaker=settings) as router:
        for worker in router.registry.workers:
            worker.breaker.record_outcome(worker.breaker.begin_request(), False)
            worker.breaker._opened_at -= 1000
            assert worker.breaker.state == "half_open"
        assert (await router.post(CHAT_PATH, CHAT)).status_code == 200
        assert [worker.breaker.state for worker in router.registry.workers] == ["closed", "closed"]


@aio
async def test_silence_counts_once() -> None:
    pair = SamplingPair()

    async def decoded(call: Call) -> None:
        pair.room(call).set()
        await call.gone()

    pair.decode.generate = decoded
    async with serving(pair, server=ServerSettings(request_timeout_secs=0.3)) as router:
        assert (await router.post(CHAT_PATH, CHAT)).status_code == 504
        (decode,) = [worker for worker in router.registry.workers if worker.role == "decode"]
        assert decode.breaker.consecutive_failures == 1


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "too many": (CHAT_PATH, {**CHAT, "n": 129}, "`n` is 129, and 128 is the most; send several requests."),
    "far too many": (CHAT_PATH, {**CHAT, "n": 10**30}, "`n` is 1e+30, and 128 is the most"),
    "a half": (CHAT_PATH, {**CHAT, "n": 1.5}, "`n` must be a whole number from 1 to 128, or left out."),
    "a word": (CHAT_PATH, {**CHAT, "n": "many"}, "`n` must be a whole number from 1 to 128, or left out."),
    "null": (GENERATE, {"text": "a", "sampling_params": {"n": None}}, "`n` must be a whole number"),
    "with many prompts": (
        COMPLETIONS,
        {"prompt": ["a"] * 101, "n": 100},
        "101 prompts with `n` 100 are 10100 answers, and 10000 is the most; send several requests.",
    ),
    "different ones": (
        GENERATE,
        {"text": ["a", "b"], "sampling_params": [{"n": 2}, {}]},
        "`n` must be the same in all of `sampling_params`.",
    ),
    "not where generate reads it": (GENERATE, {"text": "a", "n": 2}, "`n` belongs in `sampling_params`"),
    "not where OpenAI has it": (CHAT_PATH, {**CHAT, "sampling_params": {"n": 2}}, "`n` belongs in the body itself"),
    "of a rerank": ("/v1/rerank", {"query": "a", "documents": ["b"], "n": 2}, "/v1/rerank is not served for 'fake'"),
    "best of more": (COMPLETIONS, {"prompt": "a", "n": 2, "best_of": 3}, "`best_of` is not offered"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    path, body, words_of_it = REFUSED[case]

    async def test() -> None:
        pair = SamplingPair()
        async with serving(pair) as router:
            answer = await router.post(path, {"model": "fake", **body})
            assert answer.status_code == 400, answer.text
            assert words_of_it in answer.json()["error"]["message"]
            assert pair.decode.requests == []

    run(test)


@aio
async def test_copies_of_a_body_are_bounded() -> None:
    pair = SamplingPair()
    long = {**CHAT, "messages": [{"role": "user", "content": "x" * 90_000}]}
    async with serving(pair, limits=AdmissionSettings(body_bytes=4 << 20)) as router:
        refused = await router.post(CHAT_PATH, {**long, "n": 100})
        assert refused.status_code == 413
        assert "100 copies of it are more than the router keeps" in refused.json()["error"]["message"]
        assert pair.decode.requests == []
        answer = await router.post(CHAT_PATH, long)
        assert answer.status_code == 200
        assert [body["messages"] for body in sent(pair)] == [long["messages"]] * 3
        await until(lambda: router.limits.bodies.bytes_in_use == 0, "what has been answered holds nothing")


@aio
async def test_answers_in_another_form_are_an_error() -> None:
    pair = FakePair()
    async with serving(pair) as router:
        answer = await router.post(CHAT_PATH, CHAT)
        assert answer.status_code == 502
        assert "do not fit together" in answer.json()["error"]["message"]


def test_usage_counts_prompts_once_and_answers_all() -> None:
    first: dict[str, Any] = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6, "reasoning_tokens": None}
    first["completion_tokens_details"] = {"reasoning_tokens": 1, "audio_tokens": None}
    second = {"prompt_tokens": 4, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 2}}
    assert merged_usage([first, second]) == {
        "prompt_tokens": 4,
        "completion_tokens": 5,
        "total_tokens": 9,
        "reasoning_tokens": None,
        "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": None},
    }
    assert merged_usage([None, None]) is None


@pytest.mark.parametrize(
    "payload", [b"null", b"[]", b"{", b'{"id":1}', b'{"choices":[{}]}', b'{"choices":[{"index":"x"}]}']
)
def test_events_in_another_form(payload: bytes) -> None:
    with pytest.raises(UpstreamFailed, match="do not fit together"):
        stream_merger(CHAT_PATH, 2, batch=False).event(0, payload)


@pytest.mark.parametrize("payload", [b"null", b'{"text":"a"}', b'{"index":x}'])
def test_events_of_a_batch_in_another_form(payload: bytes) -> None:
    with pytest.raises(UpstreamFailed, match="do not fit together"):
        stream_merger(GENERATE, 2, batch=True).event(0, payload)


def test_an_index_in_a_text_is_left_alone() -> None:
    event = orjson.dumps({"text": '"index":7}', "meta_info": {"index": 5}, "index": 1})
    found = stream_merger(GENERATE, 3, batch=True).event(2, event)
    assert payloads(found + b"data: [DONE]\n\n") == [{"text": '"index":7}', "meta_info": {"index": 5}, "index": 5}]


@pytest.mark.parametrize("path", [GENERATE, COMPLETIONS])
def test_batches_of_different_lengths_do_not_fit(path: str) -> None:
    with pytest.raises(UpstreamFailed, match="do not fit together"):
        merged_response(path, [b"[1,2]", b"[3]"], batch=True)


def test_a_long_body_is_sent_as_it_is_but_for_what_differs() -> None:
    given = {"seed": 5, "prompt": "x" * 70_000, "n": 2, "logit_bias": {"1": 2}}
    for raw in (given, {**given, "prompt": "x"}):
        body = read_body(orjson.dumps(raw))
        sent_body = orjson.loads(sample_body(body, COMPLETIONS, 3).render({"rid": "r"}, dropped=("logit_bias",)))
        assert sent_body == {"seed": 8, "prompt": raw["prompt"], "n": 1, "rid": "r"}
        assert body.fields["n"] == 2, "the client's body is as it was"


@pytest.mark.parametrize(("seed", "found"), [(-5, -4), (2**63 - 2, 2**63 - 1), ("7", "7"), (None, None), (True, True)])
def test_seeds_of_other_kinds(seed: Any, found: Any) -> None:
    assert sample_body(Body({"seed": seed}), CHAT_PATH, 1).fields == {"seed": found, "n": 1}
