"""Clients' own agents over a fake pair (a fake: so an agent can fail or hang at a chosen moment)."""

import asyncio
from typing import Any

import orjson
import pytest

from router.agent_runs import registry
from router.moa.agent_on_pair import STREAM_INTERVAL
from tests.router.moa.test_tree_runs import Agents, says_an_error
from tests.router.server.test_app import data_lines
from tests.router.support.aio import aio, run, until, within
from tests.router.support.fakes import Call, native_event
from tests.router.support.serving import Serving, serving

CHAT = "/v1/chat/completions"


@pytest.fixture
def agents() -> Agents:
    return Agents()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "UPSTREAM_TIMEOUT", 0.1)


def chat(role: str, said: str, **more: Any) -> dict[str, Any]:
    """A request of run r: the role is how the fake knows who asks."""
    messages = [{"role": "system", "content": role}, {"role": "user", "content": said}]
    return {"run": "r", "messages": messages, **more}


def prompt_of(agents: Agents, name: str) -> str:
    """The last prompt that an agent's servers got, segments included."""
    calls = [call for call in agents.pair.decode.requests if Agents.name(call) == name]
    return Agents.prompt(calls[-1])


@pytest.mark.parametrize("stream", [False, True])
def test_a_reader_that_comes_first(agents: Agents, stream: bool) -> None:
    async def test() -> None:
        async with serving(agents.pair) as router:
            asked = chat("reader", "Read: <|answer:a|>, <|answer:b|>; <|answer:a|>.", agent="top", stream=stream)
            reader = asyncio.create_task(router.post(CHAT, asked))
            runs = router.components.runs.agents.runs._runs
            await until(lambda: ("", "r") in runs and "top" in runs["", "r"].agents, "the reader has come")
            for name in ("b", "a"):
                told = await router.post(CHAT, chat(name, "Speak.", agent=name))
                assert told.json()["choices"][0]["message"]["content"] == f"says {name}, done"
            answer = await within(3.0, reader)
            assert answer.status_code == 200
            if stream:
                *chunks, last = map(orjson.loads, data_lines(answer.text)[:-1])
                said = "".join(each["choices"][0]["delta"]["content"] for each in chunks)
                assert last["choices"][0]["finish_reason"] == "stop"
            else:
                said = answer.json()["choices"][0]["message"]["content"]
            assert said == "says reader, done"
            assert "Read: says a, done, says b, done; says a, done." in prompt_of(agents, "reader")
            seen = (await router.http.get("/runs/r")).json()
            assert [(each["agent"], each["layer"], each["state"]) for each in seen["agents"]] == [
                ("top", 1, "done"),
                ("b", 0, "done"),
                ("a", 0, "done"),
            ]
            await router.settled()

    run(test)


@aio
async def test_text_completions_and_native_requests(agents: Agents) -> None:
    async with serving(agents.pair) as router:
        own = {"max_new_tokens": 3, "stream_interval": 2}
        native = {"run": "r", "agent": "ids", "input_ids": [5, 6], "sampling_params": own}
        told = (await router.post("/generate", native)).json()
        assert agents.pair.decode.requests[-1].json["sampling_params"]["stream_interval"] == 2
        assert told["output_ids"] == [7, 8, 9]
        assert told["meta_info"]["finish_reason"] == {"type": "length"}
        streamed = await router.post("/generate", {**native, "agent": "again", "stream": True})
        *events, done = data_lines(streamed.text)
        assert [orjson.loads(each)["output_ids"] for each in events] == [[7], [7, 8], [7, 8, 9]]
        assert done == "[DONE]"
        reader = {"run": "r", "input_ids": [1, "<|answer:ids|>", 2]}
        await router.post("/generate", reader)
        assert agents.pair.decode.requests[-1].json["input_ids"] == [1, 7, 8, 9, 2]
        completion = {"run": "r", "prompt": "<system>text</system>Go on", "temperature": 0.3, "seed": 4}
        answer = (await router.post("/v1/completions", completion)).json()
        assert answer["object"] == "text_completion"
        assert answer["choices"][0]["text"] == "says text, done"
        sampling = agents.pair.decode.requests[-1].json["sampling_params"]
        assert sampling.pop("stream_interval") == STREAM_INTERVAL
        assert sampling == {"temperature": 0.3, "sampling_seed": 4, "max_new_tokens": 16}


@pytest.mark.parametrize(
    ("path", "extra", "status", "words"),
    [
        (CHAT, {"run": ""}, 400, "`run` must be 1 to 64 letters"),
        (CHAT, {"run": 7}, 400, "`run` must be 1 to 64 letters"),
        (CHAT, {"agent": "a b"}, 400, "`agent` must be 1 to 64 letters"),
        (CHAT, {"order": "any"}, 400, "`order` must be one of completion, declared"),
        (CHAT, {"agent": "done"}, 409, "run r has an agent done already"),
        (CHAT, {"messages": []}, 400, "`messages` is empty"),
        (CHAT, {"messages": "hello"}, 400, "`messages` must be a list of at least one message object"),
        ("/generate", {"messages": None, "text": ""}, 400, "`text` is empty"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            400,
            "a text part of a message",
        ),
        (CHAT, {"prompt": "two prompts"}, 400, "a request of a run has one prompt"),
        (CHAT, {"messages": None}, 400, "a request of a run has one prompt"),
        (CHAT, {"n": 2}, 400, "`n` must be 1 in a request of a run"),
        (CHAT, {"tools": [{}]}, 400, "`tools` cannot be used in a request of a run"),
        (CHAT, {"stream_options": 1}, 400, "`stream_options` must be an object"),
        ("/generate", {"messages": None, "input_ids": [1, "x"]}, 400, "token ids with places"),
        ("/v1/rerank", {}, 400, "/v1/rerank takes no `run`"),
        (
            "/generate",
            {"messages": None, "text": "x", "sampling_params": 3},
            400,
            "`sampling_params` must be an object",
        ),
        (
            CHAT,
            {"agent": "me", "messages": [{"role": "user", "content": "<|answer:me|>"}]},
            400,
            "agents would wait for each other: me reads me",
        ),
    ],
)
def test_wrong_requests(agents: Agents, path: str, extra: dict[str, Any], status: int, words: str) -> None:
    async def test() -> None:
        async with serving(agents.pair) as router:
            assert (await router.post(CHAT, chat("done", "x", agent="done"))).status_code == 200
            answer = await router.post(path, {**chat("p", "x"), **extra})
            assert answer.status_code == status
            assert words in answer.json()["error"]["message"]
            assert agents.asked == ["done"]

    run(test)


@aio
async def test_a_circle_is_refused_and_the_others_go_on(agents: Agents) -> None:
    async with serving(agents.pair) as router:
        runs = router.components.runs.agents.runs._runs
        first = asyncio.create_task(router.post(CHAT, chat("a", "<|answer:b|>", agent="a")))
        await until(lambda: ("", "r") in runs and "a" in runs["", "r"].agents, "a waits for b")
        second = asyncio.create_task(router.post(CHAT, chat("b", "<|answer:c|>", agent="b")))
        await until(lambda: "b" in runs["", "r"].agents, "b waits for c")
        refused = await router.post(CHAT, chat("c", "<|answer:a|>", agent="c"))
        assert refused.status_code == 400
        assert "agents would wait for each other: c reads a reads b reads c" in refused.json()["error"]["message"]
        assert (await router.post(CHAT, chat("c", "Speak.", agent="c"))).status_code == 200
        assert [(await within(3.0, each)).status_code for each in (first, second)] == [200, 200]


@aio
async def test_an_agent_that_never_begins(agents: Agents, impatient: None) -> None:
    async with serving(agents.pair) as router:
        answer = await within(3.0, router.post(CHAT, chat("reader", "<|answer:nobody|>")))
        assert answer.status_code == 504
        assert "agent nobody of run r never began; send its request within 0.1 s" in answer.json()["error"]["message"]
        # Who comes late finds the name free.
        assert (await router.post(CHAT, chat("nobody", "Here.", agent="nobody"))).status_code == 200
        assert (await router.post(CHAT, chat("reader", "<|answer:nobody|>"))).status_code == 200


@aio
async def test_an_agent_fails_and_is_sent_again(agents: Agents) -> None:
    agents.answer["a"] = says_an_error
    async with serving(agents.pair) as router:
        reader = asyncio.create_task(router.post(CHAT, chat("reader", "<|answer:a|>")))
        answer = await router.post(CHAT, chat("a", "Speak.", agent="a"))
        assert answer.status_code == 502
        assert (await within(3.0, reader)).status_code == 502
        del agents.answer["a"]
        assert (await router.post(CHAT, chat("a", "Speak.", agent="a"))).status_code == 200
        assert (await router.post(CHAT, chat("reader", "<|answer:a|>"))).status_code == 200
        await router.settled()


@aio
async def test_an_agents_client_leaves(agents: Agents) -> None:
    async def slow(call: Call) -> None:
        await call.stream(native_event("partial"))
        await call.gone()

    agents.answer["a"] = slow
    async with serving(agents.pair) as router:
        leaver = asyncio.create_task(_leave(router, chat("a", "Speak.", agent="a"), agents))
        answer = await within(3.0, router.post(CHAT, chat("reader", "<|answer:a|>")))
        assert answer.status_code == 502
        assert "agent a failed: its client left" in answer.json()["error"]["message"]
        await leaver
        await router.freed()


async def _leave(router: Serving, body: dict[str, Any], agents: Agents) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", router.port)
    raw = orjson.dumps(body)
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(raw), raw))
    await until(lambda: "a" in agents.running, "the agent runs")
    await asyncio.sleep(0.1)
    writer.transport.abort()


@aio
async def test_a_run_is_forgotten(agents: Agents, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(agents.pair) as router:
        await router.post(CHAT, chat("a", "Speak.", agent="a"))
        monkeypatch.setattr(registry, "RUN_TTL", 0.0)
        assert (await router.post(CHAT, chat("a", "Speak.", agent="a"))).status_code == 200


@aio
async def test_text_that_looks_like_a_place_is_text_without_a_run(agents: Agents) -> None:
    async with serving(agents.pair) as router:
        answer = await router.post("/generate", {"input_ids": [1], "text": "<|answer:a|>"})
        assert answer.status_code == 200
        assert agents.pair.decode.requests[-1].json["text"] == "<|answer:a|>"


@aio
async def test_an_agent_without_a_name_has_one_that_no_client_sends(agents: Agents) -> None:
    """Before, it was called `request-2`, which a client may call its own."""
    async with serving(agents.pair) as router:
        for number in range(1, 4):
            assert (await router.post(CHAT, chat("named", "Speak.", agent=f"request-{number}"))).status_code == 200
            assert (await router.post(CHAT, chat("unnamed", "Speak."))).status_code == 200
        names = [each["agent"] for each in (await router.http.get("/runs/r")).json()["agents"]]
        assert names == ["request-1", "request#2", "request-2", "request#4", "request-3", "request#6"]
        assert (await router.post(CHAT, chat("x", "Speak.", agent="request#7"))).status_code == 400
        assert (await router.post(CHAT, chat("reader", "<|answer:request#2|>", agent="z"))).status_code == 200
        assert "<|answer:request#2|>" in prompt_of(agents, "reader"), "it is no placeholder"
