"""Splicing on the real pair: the same answers as without it, and prompts prefilled before they are whole."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.moa.run import Context, Run
from router.moa.trace import RunTrace
from router.moa.tree import Agent, Arm, Cluster, Layer, Tree
from router.pd import Dispatcher
from router.policies import POLICIES
from router.splice.pacing import Pacer
from router.workers import Registry, Worker
from tests.e2e.servers import Servers

QUESTIONS = ("Why is the sky blue?", "Name three rivers.", "What is 12 times 7?", "Who wrote Hamlet?")


class Eager(Pacer):
    """Sends every segment of at least a few tokens, so that short answers are spliced in pieces too."""

    def least(self, *, busy: bool) -> int:
        return 3


@asynccontextmanager
async def context(servers: Servers) -> AsyncIterator[Context]:
    """What runs share, over the real pair."""
    registry = Registry([Worker(servers.prefill, "prefill", servers.bootstrap_port), Worker(servers.decode, "decode")])
    await registry.probe()
    dispatcher = Dispatcher(registry, POLICIES["random"](), POLICIES["random"]())
    shared = Context(dispatcher)
    shared._pacers[servers.model] = Eager()
    try:
        yield shared
    finally:
        await dispatcher.close()
        registry.close()


async def play(shared: Context, tree: Tree, model: str, question: str, arm: Arm) -> RunTrace:
    """One greedy run; its trace."""
    models = {agent.name: model for _, _, agent in tree.agents()}
    greedy = {model: {"temperature": 0.0}}
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    run = Run(shared, tree.model_copy(update={"arm": arm}), models, greedy, messages, {})
    async for _ in run.answer():
        pass
    return run.trace


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Small trees of two or three layers with short answers, in declared order."""
    tokens = st.integers(1, 14)
    proposers, middle = [], []
    for c in range(draw(st.integers(1, 2))):
        agents = [
            Agent(name=f"p{c}{i}", role=f"You are helper {i}.", max_tokens=draw(tokens))
            for i in range(draw(st.integers(1, 3)))
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


def test_splicing_changes_no_answer(servers: Servers) -> None:
    """50 random trees, float32, greedy: token by token what the blocking arm answers."""
    segments = []

    @settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(trees(), st.sampled_from(QUESTIONS))
    def check(tree: Tree, question: str) -> None:
        async def both() -> None:
            async with context(servers) as shared:
                blocking = await play(shared, tree, servers.model, question, "tree")
                spliced = await play(shared, tree, servers.model, question, "splice")
            said = [[(a.agent, a.text, a.finish_reason) for a in trace.agents] for trace in (blocking, spliced)]
            assert said[0] == said[1]
            assert [a.prompt_tokens for a in blocking.agents] == [a.prompt_tokens for a in spliced.agents]
            assert all(a.speculation["failed"] == 0 for a in spliced.agents)
            assert all(a.speculation["segments"] == 0 for a in blocking.agents)
            segments.append(sum(a.speculation["segments"] or 0 for a in spliced.agents))

        asyncio.run(both())

    check()
    assert sum(count > 0 for count in segments) > len(segments) / 2


def test_little_is_left_to_prefill_after_the_last_upstream_token(servers: Servers) -> None:
    """Three answers of 200 tokens: under 5% of the reader's prompt comes after them.

    They end one after the other, each agent reading the one before. Answers that end at the same
    moment leave all but one of them to the end, in whatever order: a prompt grows at one place.
    """
    layers = []
    for i in range(3):
        reads = (f"c{i - 1}",) if i else ()
        poet = Agent(
            name=f"p{i}", role=f"You are poet {i}.", reads=reads, max_tokens=200, sampling={"ignore_eos": True}
        )
        layers.append(Layer(clusters=(Cluster(name=f"c{i}", agents=(poet,)),)))
    final = Agent(name="final", reads=("c0", "c1", "c2"), max_tokens=4)
    layers.append(Layer(clusters=(Cluster(name="f", agents=(final,)),)))

    async def splice() -> RunTrace:
        async with context(servers) as shared:
            shared._pacers.clear()  # the rule that is used in earnest
            return await play(shared, Tree(name="three", layers=tuple(layers)), servers.model, "Why?", "splice")

    trace = asyncio.run(splice())
    assert [agent.completion_tokens for agent in trace.agents] == [200, 200, 200, 4]
    last = trace.agents[-1]
    assert last.prompt_tokens > 600
    tail = last.speculation["tail"]
    assert tail is not None
    assert tail < 0.05 * last.prompt_tokens, last.speculation
    # What the servers say of it: the final request found the rest in the caches.
    assert last.cached_tokens > 0.95 * last.prompt_tokens
