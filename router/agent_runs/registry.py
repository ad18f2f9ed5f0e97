"""The runs of clients: the agents of each, which agents they read, and their answers so far."""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from router.errors import BadRequest, Conflict, Overloaded, RouterError, TooManyRuns, UpstreamFailed, UpstreamTimeout
from router.http.client_counts import ClientCounts
from router.moa.settings import RunSettings
from router.observability.run_store import RunStore
from router.observability.run_trace import AgentTrace, RunTrace
from router.speculative_prefill.upstream_answer import UpstreamAnswer

RUN_TTL = 600.0  # seconds after a run's last request
UPSTREAM_TIMEOUT = 120.0  # seconds that readers wait for an agent's request
MAX_AGENTS = 256  # of a run, those that are only read included
UNNAMED = "request#{}"  # an agent that its client gave no name; no client can send one with a `#`

RunKey = tuple[str, str]  # the namespace of a run and its name: clients give the same names to runs of their own


@dataclass(frozen=True)
class NewAgent:
    """An agent whose request has come.

    Attributes:
        run: The run's name in its namespace.
        name: Its name; one without a name can be read by nobody.
        model: Its model.
        reads: The agents that it reads.
        client: Whose limits the run counts for.
        namespace: Whose runs it may meet.
    """

    run: str
    name: str | None
    model: str
    reads: tuple[str, ...] = ()
    client: str = ""
    namespace: str = ""


@dataclass(frozen=True)
class JoinedAgent:
    """One agent in its run.

    Attributes:
        run_trace: The run's trace.
        trace: The agent's own trace.
        answer: The answer that its readers follow.
        upstream: The answers that it reads, by agent name.
        awaited: Whether others waited for its request.
    """

    run_trace: RunTrace
    trace: AgentTrace
    answer: UpstreamAnswer
    upstream: Mapping[str, UpstreamAnswer]
    awaited: bool

    @property
    def waits(self) -> bool:
        """Whether an answer that it reads has not ended."""
        return not all(answer.done for answer in self.upstream.values())


@dataclass
class _Run:
    """One run.

    Attributes:
        trace: Its trace.
        client: Who began it.
        answers: By agent name, those included whose request has not come yet.
        agents: The traces of agents whose request has come, by name.
        awaited: Timeouts of agents that are read but whose request has not come yet, by name.
        active: Requests in flight.
        size: About how many bytes its answers take.
        last_used: When the last request ended, on the monotonic clock.
    """

    trace: RunTrace
    client: str
    answers: dict[str, UpstreamAnswer] = field(default_factory=dict)
    agents: dict[str, AgentTrace] = field(default_factory=dict)
    awaited: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    active: int = 0
    size: int = 0
    last_used: float = field(default_factory=time.monotonic)

    @property
    def key(self) -> RunKey:
        """What it is found by."""
        return self.trace.owner, self.trace.id

    def answer_of(self, name: str) -> UpstreamAnswer:
        """An agent's answer, whether its request has come or not; it fails when that does not come in time."""
        if name not in self.answers:
            self.answers[name] = UpstreamAnswer(name)
            self.awaited[name] = asyncio.get_running_loop().call_later(UPSTREAM_TIMEOUT, self._never_began, name)
        return self.answers[name]

    def _never_began(self, name: str) -> None:
        del self.awaited[name]
        self.answers.pop(name).fail(
            UpstreamTimeout(
                f"agent {name} of run {self.trace.id} never began; "
                f"send its request within {UPSTREAM_TIMEOUT:g} s of its readers'."
            )
        )

    def check_agent(self, name: str, reads: Collection[str]) -> None:
        """Raise `Conflict`, `TooManyRuns` or `BadRequest` when an agent cannot join."""
        existing = self.agents.get(name)
        if existing is not None and existing.state != "failed":
            raise Conflict(f"run {self.trace.id} has an agent {name} already; names are given once in a run.")
        if len({*self.answers, *reads, name}) > MAX_AGENTS:
            raise TooManyRuns(
                f"run {self.trace.id} would have more than {MAX_AGENTS} agents, which is the most; begin another run."
            )
        read_by = dict.fromkeys(reads, name)  # the first reader that was found of each agent
        unvisited = [*read_by]
        while unvisited:
            current = unvisited.pop()
            if current == name:
                raise BadRequest(f"agents would wait for each other: {' reads '.join(_cycle(read_by, name))}.")
            for upstream in self.agents[current].reads if current in self.agents else ():
                if upstream not in read_by:
                    read_by[upstream] = current
                    unvisited.append(upstream)

    def add(self, name: str, model: str, reads: Collection[str]) -> JoinedAgent:
        """Let an agent that was checked take part; who waited for its request follows its answer."""
        upstream = {each: self.answer_of(each) for each in dict.fromkeys(reads)}
        layer = 1 + max((self.agents[each].layer for each in upstream if each in self.agents), default=0)
        trace = AgentTrace(name, name, layer if reads else 0, model, tuple(upstream))
        timer = self.awaited.pop(name, None)
        if timer is not None:
            timer.cancel()
        answer = self.answers[name] if timer is not None else UpstreamAnswer(name)
        self.answers[name], self.agents[name] = answer, trace
        self.trace.agents = list(self.agents.values())
        self.trace.resume()
        return JoinedAgent(self.trace, trace, answer, upstream, awaited=timer is not None)

    def forget_awaited(self) -> None:
        """Forget the agents whose requests have not come: nobody waits for them any more."""
        for name, timer in self.awaited.items():
            timer.cancel()
            del self.answers[name]
        self.awaited.clear()

    def measure(self) -> int:
        """Bring `size` up to date; returns by how much it has changed."""
        before, self.size = self.size, sum(answer.size for answer in self.answers.values())
        return self.size - before


def _cycle(read_by: Mapping[str, str], name: str) -> list[str]:
    """Return the cycle of agents through `name`, for the error message."""
    cycle = [name]
    while len(cycle) == 1 or cycle[-1] != name:
        cycle.append(read_by[cycle[-1]])
    return cycle[::-1]


class AgentRunRegistry:
    """All runs of clients.

    A run is kept for `RUN_TTL` after its last request. Where runs are too many or their answers take too many bytes,
    the oldest idle ones are forgotten before: those of the client itself when it has its share, else those of the
    client that has most.

    Args:
        store: Keeps their traces for `/runs`.
        settings: How many there may be, and how many bytes their answers may take.

    Attributes:
        size: About how many bytes the answers of all runs take.
    """

    def __init__(self, store: RunStore, settings: RunSettings | None = None) -> None:
        self._store = store
        self._settings = settings or RunSettings()
        self._runs: dict[RunKey, _Run] = {}
        self._idle: OrderedDict[RunKey, _Run] = OrderedDict()  # without requests in flight, oldest first
        self._of_client = ClientCounts()  # runs
        self.size = 0

    def __len__(self) -> int:
        """The number of runs."""
        return len(self._runs)

    @contextmanager
    def join(self, agent: NewAgent) -> Iterator[JoinedAgent]:
        """Let an agent take part in its run while the block lasts.

        When the block ends with an error, or before the answer has ended, readers fail.

        Raises:
            BadRequest: The agent would read itself, directly or through others.
            Conflict: An agent of that name has answered, or is about to.
            TooManyRuns: There are too many runs, of the client or of all, or too many agents in this one.
            Overloaded: The answers of the runs under way take too many bytes.
        """
        run = self._get_or_create((agent.namespace, agent.run), agent.client)
        run.active += 1
        self._idle.pop(run.key, None)
        try:
            name = agent.name or UNNAMED.format(len(run.agents) + 1)
            run.check_agent(name, agent.reads)
            if not run.agents:
                self._store.add(run.trace)
            joined = run.add(name, agent.model, agent.reads)
            try:
                yield joined
            except RouterError as error:
                _fail(joined, error)
                raise
            finally:
                self._end_agent(run, joined)
        finally:
            run.active -= 1
            if not run.active:
                run.forget_awaited()
            self.size += run.measure()
            if not run.active:
                self._mark_idle(run)

    def _end_agent(self, run: _Run, agent: JoinedAgent) -> None:
        """An agent's request has ended, also by an error; its run has, where no other one is in flight."""
        if not agent.answer.done:
            reason = "its client left before its answer was whole."
            _fail(agent, UpstreamFailed(f"agent {agent.trace.agent} failed: {reason}"))
        if self._store.redact_text:
            agent.trace.redact()
        if run.active == 1:
            run.trace.end("failed" if agent.trace.state == "failed" else "done", agent.trace.error)

    def _mark_idle(self, run: _Run) -> None:
        """Mark the run as idle; forget it if no agent joined."""
        run.last_used = time.monotonic()
        if not run.agents:
            self._forget(run)
            return
        self._idle[run.key] = run
        self._free_bytes()

    def _get_or_create(self, key: RunKey, client: str) -> _Run:
        self._forget_old()
        if key not in self._runs:
            self._make_room(client)
            owner, name = key
            self._runs[key] = _Run(RunTrace("client", "splice", "declared", name, owner=owner), client)
            self._of_client.add(client, 1)
        return self._runs[key]

    def _make_room(self, client: str) -> None:
        """Let there be room for another run of a client, or raise."""
        limits = self._settings
        if self.size > limits.named_bytes:
            raise Overloaded(f"the answers of runs take {self.size} bytes; try again later.", retry_after=1.0)
        if self._of_client.of(client) >= limits.named_per_client and not self._forget_oldest(client):
            number = self._of_client.of(client)
            raise TooManyRuns(f"you have {number} runs under way, which is the most; wait for one.", retry_after=1.0)
        if len(self._runs) >= limits.named and not any(
            self._forget_oldest(other) for other in self._of_client.most_common()
        ):
            raise TooManyRuns(
                f"{limits.named} runs are under way, which is the most; try again later.", retry_after=1.0
            )

    def _forget_old(self) -> None:
        oldest = time.monotonic() - RUN_TTL
        while self._idle and (run := next(iter(self._idle.values()))).last_used < oldest:
            self._forget(run)

    def _forget_oldest(self, client: str) -> bool:
        """Forget the oldest idle run of a client; False when it has none."""
        run = next((run for run in self._idle.values() if run.client == client), None)
        if run is not None:
            self._forget(run)
        return run is not None

    def _free_bytes(self) -> None:
        """Forget idle runs while the answers take too many bytes: first the oldest of the client with most of them."""
        if self.size <= self._settings.named_bytes:
            return
        sizes: Counter[str] = Counter()
        for run in self._idle.values():
            sizes[run.client] += run.size
        while self.size > self._settings.named_bytes and sizes:
            client, _ = sizes.most_common(1)[0]
            run = next(run for run in self._idle.values() if run.client == client)
            sizes[client] -= run.size
            if sizes[client] <= 0:
                del sizes[client]
            self._forget(run)

    def _forget(self, run: _Run) -> None:
        run.forget_awaited()
        self.size -= run.size
        self._idle.pop(run.key, None)
        del self._runs[run.key]
        self._of_client.add(run.client, -1)

    def close(self) -> None:
        """Forget all runs, and stop their timeouts."""
        for run in [*self._runs.values()]:
            self._forget(run)


def _fail(agent: JoinedAgent, error: RouterError) -> None:
    agent.trace.state, agent.trace.error = "failed", str(error)
    if not agent.answer.done:
        agent.answer.fail(error)
