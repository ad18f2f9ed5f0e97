"""Every hint of the table by a request that shows what it does, on pairs and plain servers (fakes)."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.errors import BadRequest
from router.hints import HINTS, Hint, check_hints
from tests.router.forwarding.test_plain_attempts import BODY, CHAT, Plain, Two
from tests.router.moa.test_tree_runs import Agents, small_tree
from tests.router.support.aio import aio, run, until
from tests.router.support.fakes import Call, FakePair
from tests.router.support.serving import Serving, serving

README = Path(__file__).parents[3] / "router" / "hints" / "README.md"
UNUSED = "x-moa-unused-hints"
PRIORITIES = {"enable_priority_scheduling": True}
PAIR_BODY = {**BODY, "model": "fake"}


def of_effect(*effects: str) -> pytest.MarkDecorator:
    """A parameter for each hint with one of the effects."""
    return pytest.mark.parametrize(
        "hint", [pytest.param(hint, id=hint.name) for hint in HINTS if hint.effect in effects]
    )


def fields(hint: Hint, value: Any) -> dict[str, Any]:
    """The top-level fields of a body with this hint; none for a header."""
    if hint.is_header:
        return {}
    for name in reversed(hint.path):
        value = {name: value}
    assert isinstance(value, dict)
    return value


async def send(router: Serving, hint: Hint, body: dict[str, Any], value: Any = None) -> httpx.Response:
    """Send a request with a hint, by default with its example."""
    value = hint.example if value is None else value
    headers = {hint.name[:-1]: value} if hint.is_header else {}
    return await router.http.post(CHAT, json={**body, **fields(hint, value)}, headers=headers)


def priority_pair(*, prefill: dict[str, Any] | None = None, decode: dict[str, Any] | None = None) -> FakePair:
    """A pair whose servers tell this of how they schedule."""
    pair = FakePair()
    pair.prefill.info |= PRIORITIES if prefill is None else prefill
    pair.decode.info |= PRIORITIES if decode is None else decode
    return pair


@of_effect("session")
def test_a_session_goes_to_one_server(hint: Hint) -> None:
    async def test() -> None:
        async with Two(policy="manual", sglang=True) as two:
            for key in "abcdefgh":
                answers = [await send(two.router, hint, BODY, key) for _ in range(2)]
                assert answers[0].json() == answers[1].json()
                assert all(UNUSED not in answer.headers for answer in answers)
            assert await two.metric("smg_manual_policy_cache_entries") == ["8.0"]

    run(test)


@pytest.mark.parametrize("name", ["prompt_cache_key", "session-id:"])
def test_a_key_that_is_too_long_is_named(name: str) -> None:
    async def test() -> None:
        async with Two(policy="manual", sglang=True) as two:
            (hint,) = (each for each in HINTS if each.name == name)
            assert (await send(two.router, hint, BODY, "k" * 129)).headers[UNUSED] == name.removesuffix(":")
            assert UNUSED not in (await send(two.router, hint, BODY, "k" * 128)).headers

    run(test)


@of_effect("priority")
def test_a_priority_reaches_servers_that_schedule_by_it(hint: Hint) -> None:
    async def test() -> None:
        expected = 1 if hint.name == "service_tier" else 5
        pair = priority_pair()
        async with serving(pair) as router:
            answer = await send(router, hint, PAIR_BODY)
            assert answer.status_code == 200
            assert UNUSED not in answer.headers
            assert [worker.requests[0].json["priority"] for worker in (pair.prefill, pair.decode)] == [expected] * 2

    run(test)


@of_effect("priority")
def test_other_servers_get_none_and_the_client_is_told(hint: Hint) -> None:
    async def test() -> None:
        pair = FakePair()
        async with serving(pair) as router:
            answer = await send(router, hint, PAIR_BODY)
            assert answer.status_code == 200
            assert answer.headers[UNUSED] == hint.name
            sent = pair.decode.requests[0].json.get("priority")
            assert sent == (5 if hint.name == "priority" else None), "its own field is the server's to judge"

    run(test)


@pytest.mark.parametrize(
    ("rule", "body", "priority"),
    [
        ({"schedule_low_priority_values_first": True}, {"nvext": {"agent_hints": {"priority": 5}}}, -5),
        ({"schedule_low_priority_values_first": True}, {"nvext": {"agent_hints": {"priority": 5}}, "priority": 3}, 3),
        ({"default_priority_value": 10}, {"service_tier": "priority"}, 11),
        ({"default_priority_value": 10}, {"service_tier": "flex"}, 9),
        ({"default_priority_value": 10, "schedule_low_priority_values_first": True}, {"service_tier": "flex"}, 11),
        ({}, {"service_tier": "flex"}, None),
        ({}, {"service_tier": "default"}, None),
        ({}, {"service_tier": "priority", "nvext": {"agent_hints": {"priority": -2}}}, -2),
    ],
)
def test_the_value_is_the_servers(rule: dict[str, Any], body: dict[str, Any], priority: int | None) -> None:
    async def test() -> None:
        told = PRIORITIES | rule
        pair = priority_pair(prefill=told, decode=told)
        async with serving(pair) as router:
            assert (await router.post(CHAT, {**PAIR_BODY, **body})).status_code == 200
            assert pair.prefill.requests[0].json.get("priority") == priority

    run(test)


@pytest.mark.parametrize(
    ("decode", "priority"),
    [
        ({}, 5),
        ({"abort_on_priority_when_disabled": True}, None),
        (PRIORITIES | {"schedule_low_priority_values_first": True}, None),
    ],
)
def test_both_servers_of_a_pair_must_understand_it(decode: dict[str, Any], priority: int | None) -> None:
    async def test() -> None:
        pair = priority_pair(decode=decode)
        async with serving(pair) as router:
            answer = await router.post(CHAT, {**PAIR_BODY, "nvext": {"agent_hints": {"priority": 5}}})
            assert (UNUSED in answer.headers) == (priority is None)
            assert pair.prefill.requests[0].json.get("priority") == priority

    run(test)


@pytest.mark.parametrize("policy", ["least_load", "bucket"])
def test_the_expected_length_decides_where_a_request_goes(policy: str) -> None:
    """Of two servers with equal prompts, the next one goes to that with the shorter answer."""
    free = asyncio.Event()

    async def hold(call: Call) -> None:
        await free.wait()
        await call.answer({"served_by": call.path})

    async def test() -> None:
        async with Two(policy=policy, sglang=True) as two:
            for server in two.servers:
                server.answer = hold
            servers = two.servers

            async def ask(tokens: int) -> Plain:
                counts = [len(server.generations) for server in servers]
                hint = {"nvext": {"agent_hints": {"osl": tokens}}}
                asked.append(asyncio.create_task(two.chat(**hint)))
                await until(lambda: [len(s.generations) for s in servers] != counts, "it arrived")
                return next(s for s, before in zip(servers, counts, strict=True) if len(s.generations) > before)

            asked: list[asyncio.Task[Any]] = []
            long, short = await ask(90_000), await ask(10)
            assert long is not short
            assert [await ask(10) for _ in range(6)] == [short] * 6
            free.set()
            assert {(await each).status_code for each in asked} == {200}
            assert all(worker.load.expected_tokens == 0 for worker in two.router.registry.workers)

    run(test)


@of_effect("none")
def test_a_hint_without_effect_is_named(hint: Hint) -> None:
    async def test() -> None:
        async with serving(FakePair()) as router:
            answer = await send(router, hint, PAIR_BODY)
            assert (answer.status_code, answer.headers[UNUSED]) == (200, hint.name.removesuffix(":"))

    run(test)


@of_effect("refused")
def test_what_would_change_the_answer_is_refused(hint: Hint) -> None:
    async def test() -> None:
        async with serving(FakePair()) as router:
            answer = await send(router, hint, PAIR_BODY)
            assert answer.status_code == 400
            assert answer.json()["error"]["message"] == f"`{hint.name}` is not taken here: {hint.note}."

    run(test)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            {"nvext": {"agent_hints": {"prio": 1}}},
            "`nvext.agent_hints.prio` is not known; `nvext.agent_hints` may have",
        ),
        ({"nvext": {"hints": {}}}, "`nvext.hints` is not known; `nvext` may have agent_context, agent_hints,"),
        ({"nvext": []}, "`nvext` must be an object"),
        ({"nvext": {"agent_hints": 1}}, "`nvext.agent_hints` must be an object"),
        ({"nvext": {"agent_hints": {"osl": -1}}}, "`nvext.agent_hints.osl` must be a whole number from 0 to"),
        ({"nvext": {"agent_hints": {"osl": True}}}, "`nvext.agent_hints.osl` must be a whole number from 0 to"),
        ({"nvext": {"agent_hints": {"priority": 2**31}}}, "`nvext.agent_hints.priority` must be a whole number"),
        ({"nvext": {"agent_context": {"session_id": "x" * 129}}}, "must be a text of 1 to 128 bytes"),
        ({"nvext": {"backend_instance_id": 0}}, "`nvext.backend_instance_id` is not taken here"),
        ({"service_tier": "fast"}, "`service_tier` must be one of auto, default, flex, scale, priority"),
        ({"service_tier": ["flex"]}, "`service_tier` must be one of"),
    ],
)
def test_wrong_and_unknown_hints_are_refused(body: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(words)):
        check_hints(body)


def test_null_says_nothing() -> None:
    check_hints({"service_tier": None, "nvext": {"agent_hints": None, "token_data": None, "extra_fields": []}})
    check_hints({"nvext": None})


@aio
async def test_a_server_that_is_no_sglang_gets_all_as_it_is() -> None:
    """It may be another router, whose hints these are."""
    hints = {"nvext": {"agent_hints": {"new": 1, "priority": 2}, "extra_fields": ["timing"]}, "service_tier": "own"}
    async with Two() as two:
        answer = await two.chat(**hints)
        assert answer.status_code == 200
        assert UNUSED not in answer.headers
        sent = next(call for server in two.servers for call in server.generations).json
        assert sent == {**BODY, **hints}


@pytest.mark.parametrize("path", ["run", "tree"])
def test_agents_take_hints_without_using_them(path: str, tmp_path: Path) -> None:
    trees = tmp_path / "trees.json"
    trees.write_text(json.dumps(small_tree()))

    async def test() -> None:
        async with serving(Agents().pair, trees=trees) as router:
            body = {**PAIR_BODY, "run": "r"} if path == "run" else {**PAIR_BODY, "model": "moa"}
            hints = {"nvext": {"agent_hints": {"osl": 3}}, "prompt_cache_key": "k", "service_tier": "flex"}
            answer = await router.post(CHAT, {**body, **hints})
            assert answer.status_code == 200, answer.text
            assert answer.headers[UNUSED] == "prompt_cache_key, service_tier, nvext.agent_hints.osl"
            answer = await router.post(CHAT, {**body, "nvext": {"agent_hints": {"new": 1}}})
            assert answer.status_code == 400

    run(test)


@aio
async def test_a_native_request_of_a_run_carries_none() -> None:
    pair, agents = priority_pair(), Agents()
    agents.pair.prefill.info, agents.pair.decode.info = pair.prefill.info, pair.decode.info
    async with serving(agents.pair) as router:
        body = {"run": "r", "input_ids": [5, 6], "nvext": {"agent_hints": {"priority": 5}}}
        answer = await router.post("/generate", body)
        assert answer.headers[UNUSED] == "nvext.agent_hints.priority"
        assert {"priority", "nvext"}.isdisjoint(agents.pair.decode.requests[-1].json)


def test_the_readme_has_every_hint() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| (.*?) \|$", README.read_text(), re.MULTILINE)
    assert rows == [(hint.name, hint.effect, hint.note) for hint in HINTS]
