"""What clients' runs may hold: names, places, bytes; and who may not hold up whom.

(A fake pair, to choose the moment.)
"""

import asyncio
from typing import Any

import httpx
import pytest

from router.agent_runs.registry import MAX_AGENTS, AgentRunRegistry, NewAgent
from router.errors import Conflict, Overloaded, TooManyRuns, UpstreamFailed
from router.moa.settings import RunSettings
from router.observability.run_store import RunStore
from router.server.admission import AdmissionSettings
from tests.router.agent_runs.test_agent_runs import CHAT, chat
from tests.router.moa.test_tree_runs import Agents
from tests.router.support.aio import aio, until, within
from tests.router.support.serving import Serving, serving


@pytest.fixture
def agents() -> Agents:
    return Agents()


def registry(**limits: Any) -> AgentRunRegistry:
    return AgentRunRegistry(RunStore(), RunSettings(**limits))


def names(runs: AgentRunRegistry) -> list[str]:
    """The runs that there are."""
    return [name for _, name in runs._runs]


def answered(runs: AgentRunRegistry, run: str, client: str, text: str = "", agent: str = "a") -> None:
    """An agent of a run gives its whole answer."""
    with runs.join(NewAgent(run, agent, "m", client=client)) as joined:
        joined.answer.update([], text)
        joined.answer.finish()
        joined.trace.state = "done"


def reading(*names: str) -> str:
    return "".join(f"<|answer:{name}|>" for name in names)


@aio
async def test_a_hundred_thousand_names_are_refused_and_nothing_is_kept(agents: Agents) -> None:
    async with serving(agents.pair, max_body=4 << 20) as router:
        names = reading(*(f"n{index}" for index in range(MAX_AGENTS)))
        told = await router.post(CHAT, chat("reader", names))
        assert told.status_code == 429
        assert "would have more than 256 agents" in told.json()["error"]["message"]
        told = await router.post(CHAT, chat("reader", reading(*(f"n{index}" for index in range(100_000)))))
        assert told.status_code == 400
        assert "100000 places for answers, and 10000 is the most" in told.json()["error"]["message"]
        assert len(router.components.runs.agents.runs) == 0
        assert (await router.http.get("/runs")).json()["runs"] == []
        assert agents.asked == []


@aio
async def test_eight_thousand_places_are_filled(agents: Agents) -> None:
    async with serving(agents.pair) as router:
        reader = asyncio.create_task(router.post(CHAT, chat("reader", reading(*["a"] * 8000))))
        await until(lambda: len(router.components.runs.agents.runs) == 1, "the reader waits")
        assert (await router.post(CHAT, chat("a", "Speak.", agent="a"))).status_code == 200
        assert (await within(10.0, reader)).status_code == 200
        prompts = [Agents.prompt(call) for call in agents.pair.decode.requests if Agents.name(call) == "reader"]
        assert prompts[-1].count("says a, done") == 8000


@aio
async def test_names_that_nobody_waits_for_are_forgotten() -> None:
    runs = registry()
    with pytest.raises(UpstreamFailed), runs.join(NewAgent("r", "reader", "m", ("x", "y"), "c")):
        raise UpstreamFailed("the reader failed.")
    assert [*runs._runs["", "r"].answers] == ["reader"]
    assert runs._runs["", "r"].awaited == {}
    with runs.join(NewAgent("r", "x", "m", client="c")) as joined:
        assert not joined.awaited
        joined.answer.finish()
    runs.close()


@pytest.mark.claim("shares-are-kept")
@aio
async def test_a_client_with_its_share_of_runs_loses_its_own_oldest() -> None:
    runs = registry(named=10, named_per_client=3)
    answered(runs, "other", "quiet")
    for index in range(50):
        answered(runs, f"run-{index}", "greedy")
    assert names(runs) == ["other", "run-47", "run-48", "run-49"]
    with pytest.raises(Conflict):
        answered(runs, "other", "quiet")


@aio
async def test_many_clients_forget_runs_of_who_has_most() -> None:
    runs = registry(named=6, named_per_client=4)
    answered(runs, "first", "quiet")
    for client in ("a", "b", "c", "d"):
        for index in range(4):
            answered(runs, f"{client}-{index}", client)
    assert len(runs) == 6
    assert "first" in names(runs)
    answered(runs, "second", "quiet")
    assert {"first", "second"} <= {*names(runs)}


@aio
async def test_runs_under_way_are_not_forgotten() -> None:
    runs = registry(named=2, named_per_client=1)
    with runs.join(NewAgent("a", "x", "m", client="one")) as joined:
        with pytest.raises(TooManyRuns, match="you have 1 runs under way"):
            answered(runs, "b", "one")
        with runs.join(NewAgent("c", "x", "m", client="two")) as other:
            with pytest.raises(TooManyRuns, match="2 runs are under way, which is the most"):
                answered(runs, "d", "three")
            other.answer.finish()
        answered(runs, "d", "three")
        joined.answer.finish()
    assert names(runs) == ["a", "d"]


@aio
async def test_answers_are_bounded_in_bytes() -> None:
    runs = registry(named_bytes=100_000)
    answered(runs, "small", "quiet", "x")
    for index in range(20):
        answered(runs, f"run-{index}", "greedy", "x" * 30_000)
    assert runs.size <= 100_000
    assert {"small", "run-19"} <= {*names(runs)}
    with runs.join(NewAgent("busy", "b", "m", client="greedy")) as joined:
        answered(runs, "busy", "greedy", "x" * 200_000)
        with pytest.raises(Overloaded, match="the answers of runs take"):
            answered(runs, "one-more", "quiet")
        joined.answer.finish()
    answered(runs, "one-more", "quiet")
    assert runs.size <= 100_000
    runs.close()
    assert (len(runs), runs.size) == (0, 0)


def waiting(router: Serving) -> int:
    return router.components.runs.agents._limits.waiting


@aio
async def test_readers_that_wait_leave_room_for_the_agent_that_they_wait_for(agents: Agents) -> None:
    """Neither their places nor their tokens, nor the client's runs, are held meanwhile."""
    limits = AdmissionSettings(max_concurrent=2, queue_size=0, rate=0.001)
    async with serving(agents.pair, limits=limits, runs=RunSettings(total=2, per_client=2)) as router:
        gate = router.limits.gate
        assert gate is not None
        readers = []
        for index in range(8):
            readers.append(asyncio.create_task(router.post(CHAT, chat(f"r{index}", reading("a"), agent=f"r{index}"))))
            await until(lambda: waiting(router) == len(readers) or readers[-1].done(), "another reader waits")
            assert not readers[-1].done(), readers[-1].result().text
        assert gate.running == 0
        assert (await router.post(CHAT, chat("a", "Speak.", agent="a"))).status_code == 200
        assert [each.status_code for each in await within(5.0, asyncio.gather(*readers))] == [200] * 8
        await until(lambda: gate.running == 0, "all have left")
        assert waiting(router) == 0
        late = await router.post(CHAT, chat("late", "x"))
        assert late.status_code == 429, "the tokens of the readers are counted when they were sent"


@aio
async def test_an_agent_that_waits_itself_is_not_refused_while_others_wait_for_it(agents: Agents) -> None:
    async with serving(agents.pair, runs=RunSettings(waiting=2)) as router:
        tops = [asyncio.create_task(router.post(CHAT, chat(f"t{i}", reading("mid"), agent=f"t{i}"))) for i in (1, 2)]
        await until(lambda: waiting(router) == 2, "both wait")
        refused = await router.post(CHAT, chat("other", reading("nobody"), agent="other"))
        assert refused.status_code == 429
        assert "requests wait for other agents" in refused.json()["error"]["message"]
        mid = asyncio.create_task(router.post(CHAT, chat("mid", reading("a"), agent="mid")))
        await until(lambda: waiting(router) == 3, "it waits too")
        assert (await router.post(CHAT, chat("a", "Speak.", agent="a"))).status_code == 200
        assert [each.status_code for each in await within(5.0, asyncio.gather(mid, *tops))] == [200] * 3


@aio
async def test_a_reader_that_leaves_while_it_waits_leaves_nothing(agents: Agents) -> None:
    async with serving(agents.pair, limits=AdmissionSettings(max_concurrent=1)) as router:
        reader = asyncio.create_task(router.post(CHAT, chat("r", reading("a"), agent="r")))
        await until(lambda: waiting(router) == 1, "it waits")
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await until(lambda: waiting(router) == 0, "it has left")
        gate = router.limits.gate
        assert gate is not None
        await until(lambda: not router.requests, "its request has ended")
        assert gate.running == 0


@aio
async def test_one_client_does_not_take_the_runs_of_others(agents: Agents) -> None:
    settings = RunSettings(named=30, named_per_client=20)
    async with serving(agents.pair, runs=settings) as router, router.http_from("127.0.0.2") as other:
        clients = {"greedy": router.http, "quiet": other}

        async def begin(run: str, client: str) -> httpx.Response:
            return await clients[client].post(CHAT, json={**chat("a", "x", agent="a"), "run": run})

        for index in range(60):
            assert (await begin(f"greedy-{index}", "greedy")).status_code == 200
        for index in range(10):
            assert (await begin(f"quiet-{index}", "quiet")).status_code == 200
        assert len(router.components.runs.agents.runs) == 30
