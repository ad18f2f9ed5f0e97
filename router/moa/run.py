"""One question through one tree: every agent starts as soon as the answers it reads are there, or begin to be."""

import asyncio
import logging
import random
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from router.early_exit import ClusterExit
from router.errors import RouterError
from router.moa.agent import run_agent
from router.moa.agent_call import AgentCall
from router.moa.agent_prompts import aggregator_messages, proposer_messages, question_text
from router.moa.merge_streams import merge_streams
from router.moa.prompt_draft import Content, Messages, PromptDraft
from router.moa.run_context import RunContext
from router.moa.tree import Agent, Tree
from router.observability.run_trace import AgentTrace, RunTrace
from router.speculative_prefill.upstream_answer import UpstreamAnswer

if TYPE_CHECKING:
    from router.observability.tracing.request_span import RequestSpan

logger = logging.getLogger(__name__)


class Run:
    """A run; `answer` yields the final agent's text as it comes, `trace` fills meanwhile.

    Args:
        context: What it shares with other runs.
        tree: The tree.
        models: Agent name -> model name.
        sampling: Model name -> default sampling.
        question: The client's messages, or its token ids where the models run without a tokenizer.
        final_sampling: What the client asked for; goes to the final agent.
        n: How many final answers are wanted.
        seed: Of the draws of early exit; None for a random one.
        heard: Whether the client gets pieces as they come; an answer that begins anew is then no answer.
        span: The request's, where it is traced.
    """

    def __init__(
        self,
        context: RunContext,
        tree: Tree,
        models: Mapping[str, str],
        sampling: Mapping[str, dict[str, Any]],
        question: Messages | list[int],
        final_sampling: dict[str, Any],
        *,
        n: int = 1,
        seed: int | None = None,
        heard: bool = True,
        span: "RequestSpan | None" = None,
    ) -> None:
        self._tree = tree = tree.dense() if tree.arm == "dense" else tree
        seed = random.getrandbits(32) if seed is None else seed
        self.trace = RunTrace(
            tree.name, tree.arm, tree.order, context.new_run(), question=question_text(question), seed=seed
        )
        self._spans = None if span is None else span.start_run(self.trace)
        self._context = context
        self._sampling = sampling
        self._question = question
        self._final_sampling = final_sampling
        self._heard = heard
        self._nonce = f"{uuid.uuid4().hex[:12]}:"
        self._members: dict[str, list[str]] = {}
        self._answers: dict[str, UpstreamAnswer] = {}
        self._traces: dict[str, AgentTrace] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._exits: dict[str, ClusterExit] = {}
        self._considered: dict[str, int] = {}
        for layer, cluster, agent in tree.agents():
            self._add(layer, cluster.name, agent, agent.name, models[agent.name])
            self._members.setdefault(cluster.name, []).append(agent.name)
        for name, members in self._members.items():
            if tree.arm == "exit" and len(members) > 1:
                self._exits[name] = ClusterExit(tree.exit, name, members, seed, context.judge)
        self.finals = [tree.final.name]
        for k in range(2, n + 1):
            name = f"{tree.final.name}#{k}"
            self._add(len(tree.layers) - 1, tree.layers[-1].clusters[0].name, tree.final, name, models[tree.final.name])
            self.finals.append(name)

    def _add(self, layer: int, cluster: str, agent: Agent, name: str, model: str) -> None:
        self._traces[name] = AgentTrace(name, cluster, layer, model, agent.reads)
        self._answers[name] = UpstreamAnswer(name)
        self.trace.agents.append(self._traces[name])

    def final(self, k: int) -> AgentTrace:
        """The trace of final answer k."""
        return self._traces[self.finals[k]]

    async def answer(self) -> AsyncGenerator[tuple[int, str]]:
        """Which of the final answers, and a piece of it (empty ones for token-id runs).

        Raises `RouterError` when an agent fails that the run cannot do without; all others are cancelled.
        """
        final = self._tree.final
        for _, cluster, agent in self._tree.agents():
            if agent.name != final.name:
                self._tasks[agent.name] = asyncio.create_task(self._inner(agent, cluster.name))
        try:
            answers = [self._ask(final, name, self._asked_of(k)) for k, name in enumerate(self.finals)]
            async with aclosing(merge_streams(answers)) as pieces:
                async for piece in pieces:
                    yield piece
        except RouterError as error:
            self.trace.end("failed", str(error))
            raise
        else:
            self.trace.end("done")
        finally:
            if self.trace.state == "running":
                self.trace.end("cancelled")
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            if self._spans is not None:
                self._spans.end(self.finals)

    def _asked_of(self, k: int) -> dict[str, Any]:
        """The client's sampling for final answer k: with one seed, n answers would be one."""
        seed = self._final_sampling.get("seed")
        return self._final_sampling if seed is None else {**self._final_sampling, "seed": seed + k}

    async def _inner(self, agent: Agent, cluster: str) -> None:
        """An agent that others read, and what its end means for its cluster."""
        mine = self._answers[agent.name]
        try:
            async for _ in self._ask(agent, agent.name, {}):
                pass
        except Exception as error:
            if not isinstance(error, RouterError):
                logger.exception("agent %s of %s failed unexpectedly", agent.name, self.trace.id)
            # While another one of the cluster answered or may still answer, readers go on without this one.
            # A cluster without any answer fails the run: its readers raise its error in turn.
            others = [self._answers[name] for name in self._members[cluster] if name != agent.name]
            upstream = [self._answers[name] for read in agent.reads for name in self._members[read]]
            own = not any(answer.error is error for answer in upstream)
            if own and any(other.error is None and not other.dropped for other in others):
                mine.drop()
            else:
                mine.fail(error)
            return
        await self._consider(cluster)

    async def _consider(self, cluster: str) -> None:
        """After an answer: whether the cluster waits for its others."""
        gate = self._exits.get(cluster)
        if gate is None:
            return
        names = self._members[cluster]
        done = [name for name in names if self._answers[name].done and not self._answers[name].dropped]
        if len(done) <= self._considered.get(cluster, 0):
            return  # two answers that came at once are one question
        self._considered[cluster] = len(done)
        done.sort(key=lambda name: self._answers[name].finish_order or 0)
        finished = {name: (self._traces[name].text, _known(self._traces[name].confidence)) for name in done}
        decision = await gate.consider(finished, sum(not self._answers[name].done for name in names))
        if decision is None:
            return
        stragglers = [name for name in names if not self._answers[name].done]
        self.trace.decisions.append({**decision.to_json(), "at": self.trace.now()})
        if not decision.exit:
            return
        for name in stragglers:
            trace = self._traces[name]
            trace.state, trace.end = "skipped" if trace.start is None else "aborted", self.trace.now()
            self._answers[name].drop()
            self._tasks[name].cancel()

    def _ask(self, agent: Agent, name: str, sampling: dict[str, Any]) -> AsyncGenerator[str]:
        trace = self._traces[name]
        upstream = [member for cluster in agent.reads for member in self._members[cluster]]
        chosen = {**self._sampling.get(trace.model, {}), **agent.sampling, **sampling}
        chosen.setdefault("max_tokens", agent.max_tokens)
        is_final = name in self.finals
        call = AgentCall(
            run=self.trace,
            trace=trace,
            answer=self._answers[name],
            draft=self._draft(agent, upstream),
            upstream={member: self._answers[member] for member in upstream},
            order=self._tree.order,
            sampling=sglang_sampling(chosen),
            splice=self._tree.arm in ("splice", "exit"),
            logprobs=trace.cluster in self._exits,
            ids=_is_ids(self._question),
            retries=self._tree.retries,
            heard=self._heard and is_final,
            timeout=self._tree.timeout,
            tracer=None if self._spans is None else self._spans.agent(trace),
        )
        return run_agent(self._context, call)

    def _draft(self, agent: Agent, upstream: list[str]) -> PromptDraft:
        question: Any = self._question
        if _is_ids(question):
            return PromptDraft(tuple(upstream), lambda places: [*question, *places])

        def write(answers: Sequence[str]) -> Content:
            if not upstream:
                return proposer_messages(agent.role, question)
            return aggregator_messages(agent.role, question, answers)

        return PromptDraft(tuple(upstream), write, self._nonce)


def _known(confidence: float | None) -> float:
    return float("nan") if confidence is None else confidence


def _is_ids(question: Messages | list[int]) -> bool:
    return isinstance(question[0], int)


def sglang_sampling(sampling: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's sampling names as SGLang's `/generate` takes them."""
    renamed = dict(sampling)
    for theirs, ours in (("max_tokens", "max_new_tokens"), ("seed", "sampling_seed")):
        if theirs in renamed:
            renamed[ours] = renamed.pop(theirs)
    return renamed
