"""One question through one tree: every agent starts as soon as the answers it reads are there, or begin to be."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from router.errors import UpstreamFailed
from router.exchange import error_message
from router.http.sse import events
from router.moa.prompts import Messages, aggregator_messages, proposer_messages
from router.moa.reading import Progress, read_event
from router.moa.trace import AgentTrace, RunTrace
from router.moa.tree import Agent, Tree
from router.pd import Dispatcher
from router.splice.answer import Answer
from router.splice.carrier import Carrier, carrier_for
from router.splice.compose import Encode, Truncate, compose, own_ids, passed_on, reencoded
from router.splice.open_prompt import OpenPrompt
from router.splice.pacing import Pacer
from router.splice.template import Template, place
from router.splice.tokenizer import Tokenizer
from router.workers import Pair


class Context:
    """What runs share: the way to the workers, and what was learned of them.

    Args:
        dispatcher: Sends the requests.
        carry: How open prompts reach a pair.
    """

    def __init__(self, dispatcher: Dispatcher, carry: Callable[[Pair], Carrier] = carrier_for) -> None:
        self.dispatcher = dispatcher
        self.carry = carry
        self._pacers: dict[str, Pacer] = {}
        self._same: dict[tuple[str, str], bool] = {}

    def pacer(self, model: str) -> Pacer:
        """What is known of the cost of a model's segments."""
        return self._pacers.setdefault(model, Pacer())

    def tokenizer(self, model: str) -> Tokenizer:
        """The tokenizer of a model; raises `NoWorker` when no prefill server of it is healthy."""
        return Tokenizer(self.dispatcher.registry.healthy(model, "prefill")[0])

    def limit(self, model: str) -> int | None:
        """The context length of a model, in tokens; None when its workers do not tell."""
        told = self.dispatcher.registry.healthy(model, "decode")[0].info.get("context_length")
        return told if isinstance(told, int) else None

    async def encode(self, upstream: str, reader: str) -> Encode:
        """How an answer of one model becomes token ids of another."""
        mine = self.tokenizer(reader)
        if (upstream, reader) not in self._same:
            self._same[upstream, reader] = await mine.same_as(self.tokenizer(upstream))
        return passed_on(mine) if self._same[upstream, reader] else reencoded(mine)


class Run:
    """A run; `answer` yields the final agent's text as it comes, `trace` fills meanwhile.

    Args:
        context: What it shares with other runs.
        tree: The tree.
        models: Agent name -> model name.
        sampling: Model name -> default sampling.
        question: The client's messages, or its token ids where the models run without a tokenizer.
        final_sampling: What the client asked for; goes to the final agent.
    """

    def __init__(
        self,
        context: Context,
        tree: Tree,
        models: Mapping[str, str],
        sampling: Mapping[str, dict[str, Any]],
        question: Messages | list[int],
        final_sampling: dict[str, Any],
    ) -> None:
        self.trace = RunTrace(tree.name, tree.arm, tree.order)
        self._context = context
        self._tree = tree
        self._sampling = sampling
        self._question = question
        self._final_sampling = final_sampling
        self._nonce = f"{uuid.uuid4().hex[:12]}:"
        self._members: dict[str, list[str]] = {}
        self._answers: dict[str, Answer] = {}
        self._traces: dict[str, AgentTrace] = {}
        for layer, cluster, agent in tree.agents():
            trace = AgentTrace(agent.name, cluster.name, layer, models[agent.name])
            self._traces[agent.name] = trace
            self._answers[agent.name] = Answer(agent.name)
            self._members.setdefault(cluster.name, []).append(agent.name)
            self.trace.agents.append(trace)

    async def answer(self) -> AsyncGenerator[str]:
        """Pieces of the final answer (empty ones for token-id runs).

        Raises `RouterError` when an agent fails; all others are cancelled.
        """
        final = self._tree.final
        tasks = [
            asyncio.create_task(self._finish(agent)) for _, _, agent in self._tree.agents() if agent.name != final.name
        ]
        try:
            async with aclosing(self._ask(final, self._final_sampling)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish(self, agent: Agent) -> None:
        try:
            async for _ in self._ask(agent, {}):
                pass
        except Exception as error:
            # Its readers raise it in turn, up to the final agent.
            self._answers[agent.name].fail(error)

    async def _ask(self, agent: Agent, sampling: dict[str, Any]) -> AsyncGenerator[str]:
        trace = self._traces[agent.name]
        chosen = {**self._sampling.get(trace.model, {}), **agent.sampling, **sampling}
        chosen.setdefault("max_tokens", agent.max_tokens)
        body = {"stream": True, "sampling_params": _native(chosen)}
        dispatcher = self._context.dispatcher
        pacer = self._context.pacer(trace.model) if self._tree.arm == "splice" and agent.reads else None
        limit = self._context.limit(trace.model)
        prompt = OpenPrompt(dispatcher, lambda: dispatcher.choose(trace.model), pacer, limit, self._context.carry)
        trace.speculation = prompt.speculation.to_json()
        async with prompt:
            await self._write(agent, prompt)
            trace.start = self.trace.now()
            async with prompt.finish(body) as exchange:
                if exchange.decode.status != 200:
                    words = b"".join([chunk async for chunk in exchange.body()])
                    raise UpstreamFailed(
                        f"agent {agent.name} failed with {exchange.decode.status}: {error_message(words)}"
                    )
                progress = None
                async for event in events(exchange.body()):
                    before, progress = progress, read_event(event, agent.name)
                    yield self._learn(trace, before, progress)
                if progress is None or progress.finish_reason is None:
                    raise UpstreamFailed(f"agent {agent.name} failed: its answer ended without a finish reason.")
                trace.end = self.trace.now()
                self._answers[agent.name].finish(cut=progress.cut)
        trace.speculation = prompt.speculation.to_json()

    def _learn(self, trace: AgentTrace, before: Progress | None, now: Progress) -> str:
        """Take an event into the trace and the answer that others read; return its new text."""
        trace.finish_reason = now.finish_reason
        trace.prompt_tokens, trace.completion_tokens, trace.cached_tokens = now.counts
        if trace.first_token is None and now.ids:
            trace.first_token = self.trace.now()
        trace.text = now.text
        if _is_ids(self._question):
            trace.output_ids = now.ids
        self._answers[trace.agent].grow(now.answer_ids, now.text)
        return now.text[len(before.text) if before else 0 :]

    async def _write(self, agent: Agent, prompt: OpenPrompt) -> None:
        """Put the agent's prompt together as its upstreams answer; returns when it is whole."""
        upstream = [name for cluster in agent.reads for name in self._members[cluster]]
        template = await self._template(agent, upstream)
        answers = {name: self._answers[name] for name in upstream}
        encode: dict[str, Encode] = {}
        for name in upstream:
            models = (self._traces[name].model, self._traces[agent.name].model)
            encode[name] = own_ids if _is_ids(self._question) else await self._context.encode(*models)
        async with aclosing(compose(template, answers, self._tree.order, encode)) as parts:
            async for part in parts:
                if isinstance(part, Truncate):
                    prompt.truncate(part.length)
                else:
                    prompt.append(part)

    async def _template(self, agent: Agent, upstream: list[str]) -> Template:
        if _is_ids(self._question):
            return Template.of_ids([*self._question, *(place(name) for name in upstream)])
        question: Any = self._question
        messages = (
            aggregator_messages(agent.role, question, [place(name, self._nonce) for name in upstream])
            if upstream
            else proposer_messages(agent.role, question)
        )
        tokenizer = self._context.tokenizer(self._traces[agent.name].model)
        return await Template.of_messages(tokenizer, messages, self._nonce)


def _is_ids(question: Messages | list[int]) -> bool:
    return isinstance(question[0], int)


def _native(sampling: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's sampling names as SGLang's `/generate` takes them."""
    renamed = dict(sampling)
    renamed["max_new_tokens"] = renamed.pop("max_tokens")
    seed = renamed.pop("seed", None)
    return renamed if seed is None else {**renamed, "sampling_seed": seed}
