"""The runs of clients: the agents of each, which agents they read, and their answers so far."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from router.errors import BadRequest, Conflict, RouterError, TooManyRuns, UpstreamFailed, UpstreamTimeout
from router.observability.run_store import RunStore
from router.observability.run_trace import AgentTrace, RunTrace
from router.speculative_prefill.upstream_answer import UpstreamAnswer

RUN_TTL = 600.0  # seconds after a run's last request
UPSTREAM_TIMEOUT = 120.0  # seconds that readers wait for an agent's request
MAX_RUNS = 1024
MAX_AGENTS = 256  # of a run


@dataclass(frozen=True)
class AgentSlot:
    """One agent in its run.

    Attributes:
        run_trace: The run's trace.
        trace: The agent's own trace.
        answer: The answer that its readers follow.
        upstream: The answers that it reads, by agent name.
    """

    run_trace: RunTrace
    trace: AgentTrace
    answer: UpstreamAnswer
    upstream: Mapping[str, UpstreamAnswer]


@dataclass
class _Run:
    """One run.

    Attributes:
        trace: Its trace.
        answers: By agent name, those included whose request has not come yet.
        agents: The traces of agents whose request has come, by name.
        awaited: Timeouts of agents that are read but whose request has not come yet, by name.
        active: Requests in flight.
        last_used: When the last request ended, on the monotonic clock.
    """

    trace: RunTrace
    answers: dict[str, UpstreamAnswer] = field(default_factory=dict)
    agents: dict[str, AgentTrace] = field(default_factory=dict)
    awaited: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    active: int = 0
    last_used: float = field(default_factory=time.monotonic)

    def answer_of(self, name: str) -> UpstreamAnswer:
        """An agent's answer, whether its request has come or not; it fails when that does not come in time."""
        if name not in self.answers:
            self.answers[name] = answer = UpstreamAnswer(name)
            error = UpstreamTimeout(
                f"agent {name} of run {self.trace.id} never began; "
                f"send its request within {UPSTREAM_TIMEOUT:g} s of its readers'."
            )
            self.awaited[name] = asyncio.get_running_loop().call_later(UPSTREAM_TIMEOUT, answer.fail, error)
        return self.answers[name]

    def check_agent(self, name: str, reads: tuple[str, ...]) -> None:
        """Raise `Conflict`, `TooManyRuns` or `BadRequest` when an agent cannot join."""
        existing = self.agents.get(name)
        if existing is not None and existing.state != "failed":
            raise Conflict(f"run {self.trace.id} has an agent {name} already; names are given once in a run.")
        if len(self.agents) >= MAX_AGENTS:
            raise TooManyRuns(f"run {self.trace.id} has {MAX_AGENTS} agents, which is the most; begin another run.")
        paths: list[tuple[str, tuple[str, ...]]] = [(upstream, (name, upstream)) for upstream in reads]
        visited: set[str] = set()
        while paths:
            current, path = paths.pop()
            if current == name:
                raise BadRequest(f"agents would wait for each other: {' reads '.join(path)}.")
            if current not in visited and current in self.agents:
                visited.add(current)
                paths += [(upstream, (*path, upstream)) for upstream in self.agents[current].reads]

    def close(self) -> None:
        """Stop all timeouts."""
        for timer in self.awaited.values():
            timer.cancel()


class AgentRunRegistry:
    """All runs of clients.

    Args:
        store: Keeps their traces for `/runs`.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._runs: dict[str, _Run] = {}

    @contextmanager
    def join(self, run_name: str, agent: str | None, model: str, reads: tuple[str, ...]) -> Iterator[AgentSlot]:
        """Take part in a run as an agent while the block lasts; an agent without a name can be read by nobody.

        When the block ends with an error, or before the answer has ended, readers fail.

        Raises:
            BadRequest: The agent would read itself, directly or through others.
            Conflict: An agent of that name has answered, or is about to.
            TooManyRuns: There are too many runs, or too many agents in this one.
        """
        run = self._get_or_create(run_name)
        name = agent or f"request-{len(run.agents) + 1}"
        run.check_agent(name, reads)
        upstream = {each: run.answer_of(each) for each in reads}
        layer = 1 + max((run.agents[each].layer for each in reads if each in run.agents), default=0) if reads else 0
        trace = AgentTrace(name, name, layer, model, tuple(dict.fromkeys(reads)))
        previous = run.answers.get(name)
        answer = previous if name in run.awaited and previous and previous.error is None else UpstreamAnswer(name)
        if name in run.awaited:
            run.awaited.pop(name).cancel()
        run.answers[name], run.agents[name] = answer, trace
        run.trace.agents = list(run.agents.values())
        run.trace.resume()
        run.active += 1
        try:
            yield AgentSlot(run.trace, trace, answer, upstream)
        except RouterError as error:
            _fail(trace, answer, error)
            raise
        finally:
            if not answer.done:
                _fail(
                    trace, answer, UpstreamFailed(f"agent {name} failed: its client left before its answer was whole.")
                )
            run.active -= 1
            run.last_used = time.monotonic()
            if not run.active:
                run.trace.end("failed" if trace.state == "failed" else "done", trace.error)

    def _get_or_create(self, name: str) -> _Run:
        self._forget_idle()
        if name not in self._runs:
            if len(self._runs) >= MAX_RUNS:
                raise TooManyRuns(f"{MAX_RUNS} runs are under way or were of late; try again later.")
            self._runs[name] = _Run(RunTrace("client", "splice", "declared", name))
            self._store.add(self._runs[name].trace)
        return self._runs[name]

    def _forget_idle(self) -> None:
        oldest = time.monotonic() - RUN_TTL
        for name in [name for name, run in self._runs.items() if not run.active and run.last_used < oldest]:
            self._runs.pop(name).close()

    def close(self) -> None:
        """Forget all runs, and stop their timeouts."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()


def _fail(trace: AgentTrace, answer: UpstreamAnswer, error: RouterError) -> None:
    trace.state, trace.error = "failed", str(error)
    if not answer.done:
        answer.fail(error)
