"""Splicing on the real pair: the same answers as without it, and prompts prefilled before they are whole."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from router.moa.run import Run
from router.moa.run_context import RunContext
from router.moa.run_plan import RunPlan
from router.moa.tree import Agent, Arm, Cluster, Layer, Tree
from router.observability.run_trace import RunTrace
from router.speculative_prefill.composition import Truncate, compose_prompt, same_tokenizer_ids
from router.speculative_prefill.open_prompt import OpenPrompt
from router.speculative_prefill.transport import FallbackTransport, SegmentTransport, transport_for
from router.speculative_prefill.upstream_answer import UpstreamAnswer
from router.workers.registry import Registry
from router.workers.worker import Pair, Worker
from tests.e2e.servers import TIMEOUT, Servers, generate, wait_for
from tests.router.support.dispatching import dispatcher_for
from tests.router.support.pacers import FixedPacer
from tests.router.workers.histories import History, histories

# Of ten trees, and of six histories; each takes ten seconds and more.
BATCHES = 10 if settings.get_current_profile_name() == "nightly" else 2
QUESTIONS = ("Why is the sky blue?", "Name three rivers.", "What is 12 times 7?", "Who wrote Hamlet?")


CARRIERS: dict[str, Callable[[Pair], SegmentTransport]] = {
    "fallback": lambda _: FallbackTransport(),
    "overlay": transport_for,
}


@asynccontextmanager
async def context(servers: Servers, mode: str = "overlay") -> AsyncIterator[RunContext]:
    """What runs share, over the real pair."""
    registry = Registry([Worker(servers.prefill, "prefill", servers.bootstrap_port), Worker(servers.decode, "decode")])
    await registry.probe()
    dispatcher = dispatcher_for(registry)
    shared = RunContext(dispatcher, CARRIERS[mode])
    shared._pacers[servers.model] = FixedPacer(3)
    try:
        yield shared
    finally:
        await dispatcher.close()
        registry.close()


async def play(shared: RunContext, tree: Tree, model: str, question: str, arm: Arm) -> RunTrace:
    """One greedy run; its trace."""
    models = {agent.name: model for _, _, agent in tree.agents()}
    greedy = {model: {"temperature": 0.0}}
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    run = Run(shared, RunPlan(replace(tree, arm=arm), models, messages, sampling=greedy))
    async for _ in run.answer():
        pass
    return run.trace


def forget(servers: Servers) -> None:
    """Empty both caches, so that an arm finds nothing that another one left."""
    for base in (servers.prefill, servers.decode):
        assert wait_for(partial(_flushed, base))


def _flushed(base: str) -> bool:
    return httpx.post(f"{base}/flush_cache", timeout=TIMEOUT).status_code == 200


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Small trees of two or three layers with short answers, in declared order."""
    tokens = st.integers(1, 8)
    proposers, middle = [], []
    clusters = draw(st.integers(1, 2))
    for c in range(clusters):
        agents = [
            Agent(name=f"p{c}{i}", role=f"You are helper {i}.", max_tokens=draw(tokens))
            for i in range(draw(st.integers(1, 4 - clusters)))
        ]
        proposers.append(Cluster(name=f"c{c}", agents=tuple(agents)))
        middle.append(Agent(name=f"m{c}", reads=(f"c{c}",), max_tokens=draw(tokens)))
    layers = [Layer(clusters=tuple(proposers))]
    reads = tuple(cluster.name for cluster in proposers)
    if draw(st.booleans()):
        layers.append(Layer(clusters=(Cluster(name="mid", agents=tuple(middle)),)))
        reads = ("mid",)
    final = Agent(name="final", reads=reads, max_tokens=draw(tokens))
    layers.append(Layer(clusters=(Cluster(name="end", agents=(final,)),)))
    return Tree(name="random", order="declared", layers=tuple(layers))


def test_splicing_changes_no_answer(servers: Servers, paged: Servers) -> None:
    """Random trees, float32, greedy, in fallback and in overlay mode: token by token as in the blocking arm.

    Ten at a time, shared out to both pairs, and no arm finds in the caches what another one left there.
    """
    seen: Counter[str | None] = Counter()

    @settings(max_examples=BATCHES, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.tuples(trees(), st.sampled_from(QUESTIONS)), min_size=10, max_size=10))
    def check(asked: list[tuple[Tree, str]]) -> None:
        async def everything(arm: Arm, mode: str) -> list[RunTrace]:
            async with context(servers, mode) as one, context(paged, mode) as other:
                runs = [play(one, tree, servers.model, question, arm) for tree, question in asked[::2]]
                runs += [play(other, tree, paged.model, question, arm) for tree, question in asked[1::2]]
                return await asyncio.gather(*runs)

        arms: list[tuple[Arm, str]] = [("tree", "fallback"), ("splice", "fallback"), ("splice", "overlay")]
        said = []
        for arm, mode in arms:
            forget(servers)
            forget(paged)
            agents = [agent for trace in asyncio.run(everything(arm, mode)) for agent in trace.agents]
            said.append([(a.agent, a.text, a.finish_reason, a.prompt_tokens) for a in agents])
            assert all(a.speculation["failed"] == 0 for a in agents)
            assert all(a.speculation["mode"] in (mode, None) for a in agents)
            seen.update(a.speculation["mode"] for a in agents if arm == "splice")
            assert arm == "splice" or all(a.speculation["segments"] == 0 for a in agents)
        assert said[1] == said[0]
        assert said[2] == said[0]

    # Agents that read others: each sends segments in both modes, unless its answers are too short or come too fast for
    # one. Where a slow machine makes these many, the same trees are asked again.
    for _ in range(3):
        check()
        if min(seen["overlay"], seen["fallback"]) > 10 * BATCHES:
            break
    assert seen["overlay"] > 10 * BATCHES
    assert seen["fallback"] > 10 * BATCHES


@pytest.mark.parametrize("mode", CARRIERS)
def test_answers_that_grow_restart_and_are_aborted(servers: Servers, paged: Servers, mode: str) -> None:
    """Random histories of what a prompt reads, on both pairs; the plain server gets the whole prompt."""
    modes: Counter[str | None] = Counter()

    async def splice(shared: RunContext, model: str, history: History) -> list[int]:
        answers = {name: UpstreamAnswer(name) for name in history.template.slots}
        pair = shared.dispatcher.selector.choose_pair(model)
        async with OpenPrompt(
            shared.dispatcher, lambda: pair, FixedPacer(3), new_transport=shared.make_transport
        ) as prompt:

            async def write() -> None:
                async for part in compose_prompt(history.template, answers, "declared", same_tokenizer_ids):
                    if isinstance(part, Truncate):
                        prompt.truncate(part.length)
                    else:
                        prompt.append(part)

            writing = asyncio.create_task(write())
            for step in history.steps:
                step.happen(answers[step.name])
                await asyncio.sleep(0.15)  # time for a segment
            await writing
            sampling = {"max_new_tokens": 6, "temperature": 0.0, "ignore_eos": True}
            async with prompt.finish({"sampling_params": sampling}) as exchange:
                raw = b"".join([chunk async for chunk in exchange.body()])
        assert exchange.decode.status == 200, raw
        modes[prompt.speculation.mode] += 1
        ids: list[int] = orjson.loads(raw)["output_ids"]
        return ids

    @settings(max_examples=BATCHES, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(histories(st.integers(1_000, 40_000), 40).filter(lambda h: h.declared), min_size=6, max_size=6))
    def check(told: list[History]) -> None:
        async def both_pairs() -> list[list[int]]:
            async with context(servers, mode) as one, context(paged, mode) as other:
                halves = [splice(one, servers.model, history) for history in told[::2]]
                halves += [splice(other, paged.model, history) for history in told[1::2]]
                return await asyncio.gather(*halves)

        found = asyncio.run(both_pairs())
        for history, ids in zip(told[::2] + told[1::2], found, strict=True):
            assert (
                ids == generate(servers.plain, history.declared, 6, sampling_params={"ignore_eos": True})["output_ids"]
            )

    check()
    assert modes[mode] >= 3 * BATCHES, "half of the prompts were sent in segments"


def test_little_is_left_to_prefill_after_the_last_upstream_token(servers: Servers) -> None:
    """Three answers of 100 tokens: at most the last of them is left.

    How much less depends on how fast the machine is; `router.bench.speculative_prefill` measures it.

    They end one after the other, each agent reading the one before. Answers that end at the same
    moment leave all but one of them to the end, in whatever order: a prompt grows at one place.
    """
    layers = []
    for i in range(3):
        reads = (f"c{i - 1}",) if i else ()
        poet = Agent(
            name=f"p{i}", role=f"You are poet {i}.", reads=reads, max_tokens=100, sampling={"ignore_eos": True}
        )
        layers.append(Layer(clusters=(Cluster(name=f"c{i}", agents=(poet,)),)))
    final = Agent(name="final", reads=("c0", "c1", "c2"), max_tokens=4)
    layers.append(Layer(clusters=(Cluster(name="f", agents=(final,)),)))

    async def splice() -> RunTrace:
        async with context(servers) as shared:
            shared._pacers[servers.model] = FixedPacer(30)
            return await play(shared, Tree(name="three", layers=tuple(layers)), servers.model, "Why?", "splice")

    trace = asyncio.run(splice())
    assert [agent.completion_tokens for agent in trace.agents] == [100, 100, 100, 4]
    last = trace.agents[-1]
    assert last.prompt_tokens > 300
    tail = last.speculation["tail"]
    assert tail is not None
    assert tail < 100, "of the last answer too, some was prefilled while it grew"
    # What the servers say of it: the final request found the rest in the caches.
    assert last.cached_tokens > last.prompt_tokens - 120
