"""The client's helper for placeholders."""

import asyncio
import subprocess
import sys
from typing import Any

import openai
import pytest
from moa_client import AgentRun

from router.agent_runs.registry import UNNAMED
from router.speculative_prefill.template import AGENT_NAME, PLACEHOLDER
from tests.router.moa.test_tree_runs import Agents
from tests.router.support.aio import aio
from tests.router.support.serving import serving


def test_its_words_are_the_routers() -> None:
    run = AgentRun("r-1")
    assert PLACEHOLDER.findall(f"Weigh: {run.placeholder('a.b:c')}!") == ["a.b:c"]
    assert run.fields("pro") == {"run": "r-1", "agent": "pro"}
    for name in ("", "a b", "-a", "a" * 65, UNNAMED.format(1), "a\n"):
        with pytest.raises(ValueError, match="a name must be 1 to 64 letters"):
            run.placeholder(name)
    assert AGENT_NAME in PLACEHOLDER.pattern
    assert AgentRun().id != AgentRun().id


@aio
async def test_a_node_gives_its_placeholder_on_and_the_router_fills_it() -> None:
    agents = Agents()
    async with serving(agents.pair) as router, AgentRun() as run:
        client = openai.AsyncOpenAI(base_url=f"{router.url}/v1", api_key="unused", max_retries=0)

        async def ask(fields: dict[str, str], said: str) -> str | None:
            answer = await client.chat.completions.create(
                model="fake",
                messages=[{"role": "system", "content": fields["agent"]}, {"role": "user", "content": said}],
                extra_body=fields,
            )
            return answer.choices[0].message.content

        pro = run.begin("pro", lambda fields: ask(fields, "Speak."))
        run.begin("reader", lambda fields: ask(fields, f"Read: {pro}."))
        assert await run.answer("reader") == "says reader, done"
        assert "Read: says pro, done." in Agents.prompt(agents.pair.decode.requests[-1])
        await client.close()


async def never(_: object) -> None:
    await asyncio.Event().wait()


async def fails(_: object) -> None:
    raise LookupError("no")


@aio
async def test_leaving_by_an_error_cancels_the_calls() -> None:
    run = AgentRun()

    async def block() -> None:
        async with run:
            run.begin("a", never)
            await asyncio.sleep(0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await block()
    assert run._calls["a"].cancelled()


@aio
async def test_leaving_waits_and_raises_what_nobody_saw() -> None:
    ended: list[str] = []

    async def slow(fields: dict[str, str]) -> None:
        await asyncio.sleep(0)
        ended.append(fields["agent"])

    async def block() -> None:
        async with AgentRun() as run:
            run.begin("a", fails)
            run.begin("b", slow)

    with pytest.raises(LookupError):
        await block()
    assert ended == ["b"]
    async with AgentRun() as run:
        run.begin("a", fails)
        with pytest.raises(LookupError):
            await run.answer("a")


@aio
async def test_a_waiting_block_that_is_cancelled_cancels_its_calls() -> None:
    runs: list[AgentRun] = []

    async def block() -> None:
        async with AgentRun() as run:
            runs.append(run)
            run.begin("a", never)

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert runs[0]._calls["a"].cancelled()


@aio
async def test_a_name_is_given_once_and_only_inside() -> None:
    async def quick(_: dict[str, str]) -> None: ...

    run: Any = AgentRun()
    with pytest.raises(RuntimeError, match="inside the run's block"):
        run.begin("a", quick)
    async with run:
        run.begin("a", quick)
        with pytest.raises(ValueError, match="already"):
            run.begin("a", quick)
    with pytest.raises(RuntimeError, match="inside the run's block"):
        run.begin("b", quick)


def test_it_needs_nothing_but_python() -> None:
    """So that a client can install it without the server's packages."""
    code = "import sys; sys.path.insert(0, 'client'); import moa_client"
    assert subprocess.run([sys.executable, "-I", "-S", "-c", code], check=False).returncode == 0
