"""Which agents clients' runs have, who reads whom, and what each has answered so far."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from router.errors import BadRequest, Conflict, RouterError, TooManyRuns, UpstreamFailed, UpstreamTimeout
from router.observability.run_store import RunStore
from router.observability.run_trace import AgentTrace, RunTrace
from router.speculative_prefill.composition import AnswerOrder
from router.speculative_prefill.upstream_answer import UpstreamAnswer

FORGET_AFTER = 600.0  # seconds without a request
UPSTREAM_WAIT = 120.0  # seconds that readers wait for an agent's request
MAX_RUNS = 1024
MAX_AGENTS = 256  # of a run


@dataclass(frozen=True)
class AgentSlot:
    """An agent's place in its run."""

    trace: RunTrace
    agent: AgentTrace
    answer: UpstreamAnswer
    upstream: Mapping[str, UpstreamAnswer]


@dataclass
class _Run:
    trace: RunTrace
    answers: dict[str, UpstreamAnswer] = field(default_factory=dict)
    agents: dict[str, AgentTrace] = field(default_factory=dict)
    awaited: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    active: int = 0
    touched: float = field(default_factory=time.monotonic)

    def find(self, name: str) -> UpstreamAnswer:
        """An agent's answer, whether its request has come or not; it fails when that never comes."""
        if name not in self.answers:
            self.answers[name] = answer = UpstreamAnswer(name)
            error = UpstreamTimeout(
                f"agent {name} of run {self.trace.id} never began; send its request within {UPSTREAM_WAIT:g} s of its readers'."
            )
            self.awaited[name] = asyncio.get_running_loop().call_later(UPSTREAM_WAIT, answer.fail, error)
        return self.answers[name]

    def close(self) -> None:
        for timer in self.awaited.values():
            timer.cancel()


class AgentRunRegistry:
    """All runs of clients.

    Args:
        store: Where their traces can be looked at.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._runs: dict[str, _Run] = {}

    @contextmanager
    def join(
        self, run: str, agent: str | None, model: str, reads: tuple[str, ...], order: AnswerOrder
    ) -> Iterator[AgentSlot]:
        """Take part as an agent while the block lasts; an agent without a name can be read by nobody.

        When the block ends with an error, or before its answer has, readers fail.

        Raises:
            BadRequest: The agent would read itself, directly or through others.
            Conflict: An agent of that name has answered, or is about to.
            TooManyRuns: There are too many runs, or too many agents in this one.
        """
        found = self._find(run)
        name = agent or f"request-{len(found.agents) + 1}"
        self._check(found, name, reads)
        upstream = {each: found.find(each) for each in reads}
        layer = 1 + max((found.agents[each].layer for each in reads if each in found.agents), default=0) if reads else 0
        trace = AgentTrace(name, name, layer, model, tuple(dict.fromkeys(reads)))
        previous = found.answers.get(name)
        answer = previous if name in found.awaited and previous and previous.error is None else UpstreamAnswer(name)
        if name in found.awaited:
            found.awaited.pop(name).cancel()
        found.answers[name], found.agents[name] = answer, trace
        found.trace.agents = list(found.agents.values())
        found.trace.resume()
        found.active += 1
        try:
            yield AgentSlot(found.trace, trace, answer, upstream)
        except RouterError as error:
            _fail(trace, answer, error)
            raise
        finally:
            if not answer.done:
                _fail(
                    trace, answer, UpstreamFailed(f"agent {name} failed: its client left before its answer was whole.")
                )
            found.active -= 1
            found.touched = time.monotonic()
            if not found.active:
                found.trace.end("failed" if trace.state == "failed" else "done", trace.error)

    def _find(self, run: str) -> _Run:
        self._forget()
        if run not in self._runs:
            if len(self._runs) >= MAX_RUNS:
                raise TooManyRuns(f"{MAX_RUNS} runs are under way or were of late; try again later.")
            self._runs[run] = _Run(RunTrace("client", "splice", "declared", run))
            self._store.add(self._runs[run].trace)
        return self._runs[run]

    def _forget(self) -> None:
        before = time.monotonic() - FORGET_AFTER
        for run in [key for key, each in self._runs.items() if not each.active and each.touched < before]:
            self._runs.pop(run).close()

    @staticmethod
    def _check(found: _Run, name: str, reads: tuple[str, ...]) -> None:
        there = found.agents.get(name)
        if there is not None and there.state != "failed":
            raise Conflict(f"run {found.trace.id} has an agent {name} already; names are given once in a run.")
        if len(found.agents) >= MAX_AGENTS:
            raise TooManyRuns(f"run {found.trace.id} has {MAX_AGENTS} agents, which is the most; begin another run.")
        ways: list[tuple[str, tuple[str, ...]]] = [(each, (name, each)) for each in reads]
        seen: set[str] = set()
        while ways:
            at, way = ways.pop()
            if at == name:
                raise BadRequest(f"agents would wait for each other: {' reads '.join(way)}.")
            if at not in seen and at in found.agents:
                seen.add(at)
                ways += [(each, (*way, each)) for each in found.agents[at].reads]

    def close(self) -> None:
        """Forget all runs; nobody is waited for any more."""
        for found in self._runs.values():
            found.close()
        self._runs.clear()


def _fail(trace: AgentTrace, answer: UpstreamAnswer, error: RouterError) -> None:
    trace.state, trace.error = "failed", str(error)
    if not answer.done:
        answer.fail(error)
