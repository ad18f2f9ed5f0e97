"""A tree over a plain SGLang server, through its OpenAI endpoint: no pair, no splicing, but early exit."""

import asyncio
import time
from typing import Any

import httpx
from msgspec.structs import replace

from router.early_exit import ExitRule, Judge
from router.moa.generate_events import GenerateReader, read_event
from router.moa.run import Run
from router.moa.run_context import RunContext
from router.moa.run_plan import RunPlan
from router.moa.tree_files import read_trees
from router.observability.run_trace import RunTrace
from router.workers.registry import Registry
from router.workers.worker import Worker
from tests.e2e.conftest import small_tree
from tests.e2e.servers import MODEL, TIMEOUT, Servers, wait_for
from tests.router.support.dispatching import dispatcher_for
from tests.router.support.parsed_bytes import counted

AT_ONCE = ExitRule(rule="q_threshold", q_min=0.0)


def test_a_tree_on_a_plain_server(servers: Servers) -> None:
    tree = read_trees({"trees": [small_tree()]}, "the test's tree").trees[0]
    question: list[dict[str, Any]] = [{"role": "user", "content": "What is the capital of Italy?"}]

    async def play() -> RunTrace:
        registry = Registry([Worker(servers.plain, "plain")])
        await registry.probe()
        dispatcher = dispatcher_for(registry)
        judge = Judge()
        await judge.start()
        try:
            exits = replace(tree, arm="exit", exit=AT_ONCE)
            models = {agent.name: MODEL for _, _, agent in tree.agents()}
            run = Run(RunContext(dispatcher, judge=judge), RunPlan(exits, models, question))
            async for _ in run.answer():
                pass
            assert registry.workers[0].capability == "sglang"
            return run.trace
        finally:
            await judge.close()
            await dispatcher.close()
            registry.close()

    deadline = time.monotonic() + TIMEOUT
    while True:
        trace = asyncio.run(play())
        agents = {agent.agent: agent for agent in trace.agents}
        # On a busy machine the stragglers may be done before the judge has looked at the others.
        if {agents[name].state for name in ("p13", "p23")} == {"aborted"} or time.monotonic() > deadline:
            break
    assert agents["final"].state == "done"
    assert agents["final"].text
    assert agents["final"].completion_tokens == 12
    assert {agent.backend for agent in trace.agents} == {"plain"}
    assert {agents[name].state for name in ("p13", "p23")} == {"aborted"}
    assert all(0 < (agents[name].confidence or 0) <= 1 for name in ("p11", "p12", "p21", "p22"))
    assert wait_for(lambda: _running(servers.plain) == 0), "the stragglers' requests have ended"


def test_the_events_of_a_real_server_are_parsed_where_they_are_new(servers: Servers) -> None:
    """Each reads as it would alone; the first and the last are parsed whole."""
    sampling = {"max_new_tokens": 32, "temperature": 0, "ignore_eos": True}
    body = {"text": "The river is long and", "sampling_params": sampling, "return_logprob": True, "stream": True}
    with httpx.stream("POST", f"{servers.plain}/generate", json=body, timeout=TIMEOUT) as response:
        events = [line[6:].encode() for line in response.iter_lines() if line.startswith("data: {")]
    reader = GenerateReader("a")
    with counted() as parsed_bytes:
        read = [reader.read(event) for event in events]
    assert read == [read_event(event, "a") for event in events]
    assert len(events) > 2
    assert parsed_bytes() < len(events[0]) + len(events[-1]) + 1000


def _running(base: str) -> int:
    loads = httpx.get(f"{base}/server_info", timeout=TIMEOUT).json()["internal_states"][0]["sglang_ext"]["requests"]
    return sum(loads.values())
