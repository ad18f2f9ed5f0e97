"""What agents read: messages of any client, prompts for any chat template, and answers without their reasoning.

The pairs are fakes, which keep the requests that they get: a real server does not tell its prompt.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from router.moa.agent_prompts import aggregator_messages
from router.moa.messages import read_messages
from router.moa.reasoning import ReasoningSplitter
from tests.router.agent_runs.test_agent_runs import chat, prompt_of
from tests.router.moa.test_tree_runs import CHAT, Agents, last_message
from tests.router.support.aio import aio
from tests.router.support.fakes import Call, native_event, toy_ids
from tests.router.support.serving import serving

PATH = "/v1/chat/completions"


@pytest.mark.case("6.client_errors_502", "2.logit_bias_tree")
@pytest.mark.parametrize(
    "extra",
    [{"temperature": -1}, {"top_p": 0}, {"stop": 5}, {"max_tokens": 10**9}, {"logit_bias": {"5": 1e39}}],
)
@aio
async def test_public_case_wrong_values_are_refused_before_any_agent_runs(
    agents: Agents,
    trees: Path,
    extra: dict[str, Any],
) -> None:
    agents.pair.decode.info["context_length"] = 2048
    async with serving(agents.pair, trees=trees) as router:
        for body in ({**CHAT, **extra}, chat("r", "x", **extra)):
            if "run" in body and "max_tokens" in extra:
                continue  # its own server says how long its prompt and answer may be
            answer = await router.post(PATH, body)
            assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
            assert f"`{next(iter(extra))}`" in answer.json()["error"]["message"]
        assert agents.asked == []


@aio
async def test_a_refusal_in_the_stream_is_the_clients_error(agents: Agents, trees: Path) -> None:
    async def refuses(call: Call) -> None:
        await call.stream({"error": {"message": "token ids outside the vocabulary", "code": 400}})
        await call.done()

    agents.answer["final"] = refuses
    async with serving(agents.pair, trees=trees) as router:
        answer = await router.post(PATH, CHAT)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert "token ids outside the vocabulary" in answer.json()["error"]["message"]


@pytest.mark.case("6.min_tokens")
@aio
async def test_public_case_min_tokens(agents: Agents, trees: Path) -> None:
    async with serving(agents.pair, trees=trees) as router:
        limits = {"min_tokens": 12, "max_tokens": 12}
        for body, name in (({**CHAT, **limits}, "final"), (chat("alone", "x", **limits), "alone")):
            assert (await router.post(PATH, body)).status_code == 200
            sampling = agents.call_of(name).json["sampling_params"]
            assert (sampling["min_new_tokens"], sampling["max_new_tokens"]) == (12, 12)
            assert "min_tokens" not in sampling


@pytest.mark.case("6.templates")
@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"chat_template_kwargs": {"enable_thinking": False}}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ({"enable_thinking": False}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ({"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
    ],
)
@aio
async def test_public_case_template_options_reach_every_prompt(
    agents: Agents,
    trees: Path,
    given: dict[str, Any],
    sent: dict[str, Any],
) -> None:
    async with serving(agents.pair, trees=trees) as router:
        for body, count in (({**CHAT, **given}, 6), (chat("alone", "x", **given), 1)):
            servers = (agents.pair.prefill.server, agents.pair.decode.server)
            before = sum(len(_renders(server)) for server in servers)
            assert (await router.post(PATH, body)).status_code == 200
            renders = [each for server in servers for each in _renders(server)]
            assert len(renders) - before == count
            assert all({key: each.get(key) for key in sent} == sent for each in renders)


def _renders(server: Any) -> list[dict[str, Any]]:
    return [call.json for call in server.to("/tokenize") if "messages" in call.json]


@pytest.mark.case("6.text_parts_run")
@aio
async def test_public_case_text_parts_in_a_run(agents: Agents) -> None:
    async with serving(agents.pair) as router:
        assert (await router.post(PATH, chat("a", "Speak.", agent="a"))).status_code == 200
        body = chat("reader", "")
        body["messages"][-1]["content"] = [
            {"type": "text", "text": "Name a colour"},
            {"type": "text", "text": "after <|answer:a|>"},
        ]
        assert (await router.post(PATH, body)).status_code == 200
        assert "Name a colour\nafter says a, done" in prompt_of(agents, "reader")


@pytest.mark.case("6.last_not_user")
@pytest.mark.parametrize("last", [{"role": "assistant", "content": "Blue"}, {"role": "tool", "content": "7"}])
def test_public_case_notes_stand_in_a_users_message(last: dict[str, Any]) -> None:
    question = [{"role": "user", "content": "Q"}, last]
    system, first, kept, notes = aggregator_messages("role", question, ["N1"])
    assert (system["role"], first, kept) == ("system", question[0], last)
    assert notes["role"] == "user"
    assert "N1" in notes["content"]


@pytest.mark.case("6.image_aggregator")
@aio
async def test_public_case_images_are_refused_before_any_agent_runs(agents: Agents, trees: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "See"}, image]}]
    async with serving(agents.pair, trees=trees) as router:
        for body in ({**CHAT, "messages": messages}, {"run": "r", "messages": messages}):
            answer = await router.post(PATH, body)
            assert answer.status_code == 400
            assert "'image_url'" in answer.json()["error"]["message"]
        assert agents.asked == []


def test_contents_without_text() -> None:
    assert read_messages([{"role": "user", "content": None}, {"role": "user"}]) == [{"role": "user", "content": ""}] * 2


@pytest.mark.case("11.no_system_role")
@aio
async def test_public_case_a_template_without_a_system_role(agents: Agents, trees: Path) -> None:
    for worker in (agents.pair.prefill, agents.pair.decode):
        worker.server.handler = _without_system_role(worker.server.handler)
    async with serving(agents.pair, trees=trees) as router:
        answer = await router.post(PATH, CHAT)
        assert answer.status_code == 200, answer.text
        prompts = [Agents.prompt(call) for call in agents.pair.decode.requests]
        assert prompts[0] == "<user>p1\n\nWhy is the sky blue?</user>"
        assert not any("<system>" in prompt for prompt in prompts)


def _without_system_role(handler: Any) -> Any:
    async def handle(call: Call) -> None:
        if call.path == "/tokenize" and any(each["role"] == "system" for each in call.json.get("messages", ())):
            await call.answer({"error": {"message": "System role not supported"}}, 400)
        elif call.path == "/tokenize":
            await call.answer({"tokens": toy_ids(call.json)})
        else:
            await handler(call)

    return handle


@aio
async def test_readers_do_not_get_an_answers_reasoning(agents: Agents, trees: Path) -> None:
    async def thinks(call: Call) -> None:
        await call.stream(*(native_event(text) for text in ("<th", "<think>Hm", "<think>Hm</think>\n\nBlue")))
        await asyncio.sleep(0.01)
        await call.event(native_event("<think>Hm</think>\n\nBlue.", "stop"))
        await call.done()

    agents.answer["p3"] = thinks
    async with serving(agents.pair, trees=trees) as router:
        for arm in ("tree", "splice"):
            agents.pair.decode.server.calls.clear()
            traces = (await router.post(PATH, {**CHAT, "moa": {"arm": arm}})).json()["moa"]["agents"]
            p3 = next(each for each in traces if each["agent"] == "p3")
            assert (p3["text"], p3["reasoning"]) == ("Blue.", "Hm")
            prompt = last_message([c for c in agents.pair.decode.requests if agents.name(c) == "agg2"][-1])
            assert "- Blue." in prompt
            assert "Hm" not in prompt


@pytest.mark.parametrize(
    ("text", "answer", "reasoning"),
    [
        ("Blue", "Blue", ""),
        ("<think>Hm", "", "Hm"),
        ("<thi", "", ""),
        ("<this>", "<this>", ""),
        ("<think>Hm</think>\n\nBlue", "Blue", "Hm"),
        ("Hm</think>Blue", "Blue", "Hm"),
        ("", "", ""),
    ],
)
def test_reasoning_is_split_the_same_letter_by_letter(text: str, answer: str, reasoning: str) -> None:
    assert ReasoningSplitter().split(text) == (answer, reasoning)
    splitter = ReasoningSplitter()
    seen = [splitter.split(text[:end]) for end in range(len(text) + 1)]
    assert seen[-1] == (answer, reasoning)
