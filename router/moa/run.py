"""One run: one question through one tree. Agents start as soon as their upstream answers are known or begin to come."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from router.early_exit import ClusterExit
from router.errors import RouterError, clear_tracebacks
from router.http.merge_streams import merge_streams
from router.moa.agent import run_agent
from router.moa.agent_call import AgentCall
from router.moa.agent_prompts import aggregator_messages, proposer_messages, question_text
from router.moa.prompt_draft import Content, PromptDraft
from router.moa.run_context import RunContext
from router.moa.run_plan import RunPlan
from router.moa.sampling import sglang_sampling
from router.moa.tree import Agent
from router.observability.run_trace import AgentTrace, RunTrace
from router.speculative_prefill.upstream_answer import UpstreamAnswer

if TYPE_CHECKING:
    from router.observability.tracing.request_span import RequestSpan

logger = logging.getLogger(__name__)


class Run:
    """A run; `answer` yields the final agent's text as it comes, `trace` fills meanwhile.

    Args:
        context: Shared with other runs.
        plan: What it is of.
        span: The request's span; None without tracing.
    """

    def __init__(self, context: RunContext, plan: RunPlan, span: "RequestSpan | None" = None) -> None:
        self._context = context
        self._plan = plan
        self._tree = tree = plan.tree.dense() if plan.tree.arm == "dense" else plan.tree
        seed = random.getrandbits(32) if plan.seed is None else plan.seed
        self.trace = RunTrace(
            tree.name,
            tree.arm,
            tree.order,
            context.new_run_id(),
            question=question_text(plan.question),
            seed=seed,
            owner=plan.owner,
        )
        self._spans = None if span is None else span.start_run(self.trace)
        self._members: dict[str, list[str]] = {}  # agent names by cluster; the others by agent name
        self._answers: dict[str, UpstreamAnswer] = {}
        self._traces: dict[str, AgentTrace] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._decided_answers: dict[str, int] = {}  # by cluster: number of answers at the last exit decision
        for layer, cluster, agent in tree.agents():
            self._add_agent(layer, cluster.name, agent, agent.name)
            self._members.setdefault(cluster.name, []).append(agent.name)
        self._exits = self._cluster_exits(seed)  # by cluster
        self._final_names = [tree.final.name]
        for k in range(2, plan.n + 1):
            self._final_names.append(f"{tree.final.name}#{k}")
            self._add_agent(len(tree.layers) - 1, tree.layers[-1].clusters[0].name, tree.final, self._final_names[-1])

    def _cluster_exits(self, seed: int) -> dict[str, ClusterExit]:
        """What decides on the early exit of each cluster that may exit."""
        if self._tree.arm != "exit":
            return {}
        return {
            name: ClusterExit(self._tree.exit, name, members, seed, self._context.judge)
            for name, members in self._members.items()
            if len(members) > 1
        }

    def _add_agent(self, layer: int, cluster: str, agent: Agent, name: str) -> None:
        self._traces[name] = AgentTrace(name, cluster, layer, self._plan.models[agent.name], agent.reads)
        self._answers[name] = UpstreamAnswer(name)
        self.trace.agents.append(self._traces[name])

    def final_trace(self, k: int) -> AgentTrace:
        """The trace of final answer k, from 0."""
        return self._traces[self._final_names[k]]

    async def answer(self) -> AsyncGenerator[tuple[int, str]]:
        """Yield the index of a final answer and its new text (empty for token-id runs).

        Raises:
            RouterError: An agent failed that the run cannot do without; all others are cancelled.
        """
        final = self._tree.final
        for _, cluster, agent in self._tree.agents():
            if agent.name != final.name:
                self._tasks[agent.name] = asyncio.create_task(self._run_upstream_agent(agent, cluster.name))
        try:
            answers = [
                self._run_agent(final, name, self._plan.sampling_of_final(k))
                for k, name in enumerate(self._final_names)
            ]
            async with aclosing(merge_streams(answers)) as texts:
                async for text in texts:
                    yield text
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
            self._tasks.clear()  # a cancelled task has a traceback that refers to this run: a reference cycle
            self._clear_errors()
            if self._spans is not None:
                self._spans.end(self._final_names)

    def _clear_errors(self) -> None:
        """Free what the errors of agents hold: their frames have the prompts, and the errors themselves."""
        for answer in self._answers.values():
            if answer.error is not None:
                clear_tracebacks(answer.error)

    async def _run_upstream_agent(self, agent: Agent, cluster: str) -> None:
        """Run an agent that others read; on its failure drop or fail its answer, else consider the cluster's exit."""
        answer = self._answers[agent.name]
        try:
            async for _ in self._run_agent(agent, agent.name, {}):
                pass
        except asyncio.CancelledError as cancelled:
            clear_tracebacks(cancelled)  # its frames have the prompt, and refer to it: a reference cycle
            raise
        except Exception as error:
            if not isinstance(error, RouterError):
                logger.exception("agent %s of %s failed unexpectedly", agent.name, self.trace.id)
            # While another one of the cluster answered or may still answer, readers go on without this one.
            # A cluster without any answer fails the run: its readers raise its error in turn.
            others = [self._answers[name] for name in self._members[cluster] if name != agent.name]
            upstream = [self._answers[name] for read in agent.reads for name in self._members[read]]
            is_own_error = not any(upstream_answer.error is error for upstream_answer in upstream)
            if is_own_error and any(other.error is None and not other.dropped for other in others):
                answer.drop()
                clear_tracebacks(error)
            else:
                answer.fail(error)
            return
        await self._consider_exit(cluster)

    async def _consider_exit(self, cluster: str) -> None:
        """After an answer of a cluster: decide whether it exits; abort its unfinished agents if so."""
        cluster_exit = self._exits.get(cluster)
        if cluster_exit is None:
            return
        names = self._members[cluster]
        done = [name for name in names if self._answers[name].done and not self._answers[name].dropped]
        if len(done) <= self._decided_answers.get(cluster, 0):
            return  # two answers that ended at once make one decision
        self._decided_answers[cluster] = len(done)
        done.sort(key=lambda name: self._answers[name].finish_order or 0)
        finished = {name: (self._traces[name].text, _nan_if_unknown(self._traces[name].confidence)) for name in done}
        decision = await cluster_exit.consider(finished, sum(not self._answers[name].done for name in names))
        if decision is None:
            return
        unfinished = [name for name in names if not self._answers[name].done]
        self.trace.decisions.append({**decision.to_json(), "at": self.trace.now()})
        if not decision.exit:
            return
        for name in unfinished:
            trace = self._traces[name]
            trace.state, trace.end = "skipped" if trace.start is None else "aborted", self.trace.now()
            self._answers[name].drop()
            self._tasks[name].cancel()

    def _run_agent(self, agent: Agent, name: str, client_sampling: Mapping[str, Any]) -> AsyncGenerator[str]:
        trace = self._traces[name]
        upstream = [member for cluster in agent.reads for member in self._members[cluster]]
        sampling = self._plan.sampling_of(name, trace.model, agent.sampling, client_sampling)
        sampling.setdefault("max_tokens", agent.max_tokens)
        is_final = name in self._final_names
        call = AgentCall(
            run_trace=self.trace,
            trace=trace,
            answer=self._answers[name],
            draft=self._draft(agent, upstream),
            upstream={member: self._answers[member] for member in upstream},
            order=self._tree.order,
            sampling=sglang_sampling(sampling),
            splice=self._tree.arm in ("splice", "exit"),
            return_logprobs=trace.cluster in self._exits,
            keep_output_ids=self._plan.of_token_ids,
            answers_client=is_final,
            retries=self._tree.retries,
            streaming=self._plan.streaming and is_final,
            timeout=self._tree.timeout,
            tracer=None if self._spans is None else self._spans.agent(trace),
        )
        return run_agent(self._context, call)

    def _draft(self, agent: Agent, upstream: list[str]) -> PromptDraft:
        question: Any = self._plan.question
        if self._plan.of_token_ids:
            return PromptDraft(tuple(upstream), lambda answers: [*question, *answers])

        def fill(answers: Sequence[str]) -> Content:
            if not upstream:
                return proposer_messages(agent.role, question)
            return aggregator_messages(agent.role, question, answers)

        return PromptDraft(tuple(upstream), fill, self._context.nonce, self._plan.template_options)


def _nan_if_unknown(confidence: float | None) -> float:
    return float("nan") if confidence is None else confidence
