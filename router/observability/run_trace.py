"""What is kept of a run: who was asked, how much, and when."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Literal

AgentState = Literal["waiting", "running", "done", "aborted", "skipped", "failed"]
RunState = Literal["running", "done", "failed", "cancelled"]


@dataclass
class AgentTrace:
    """One agent's call. Times are seconds since the run began; counts are tokens.

    Attributes:
        reads: Clusters it reads; for a client's own agents, the agents.
        state: `waiting` until its request is sent; `aborted` when an early exit ended it, `skipped` when one came
            before it was sent.
        error: What it failed with, or its last attempt when a later one succeeded.
        attempts: How often it was asked.
        began: When its prompt began to be put together.
        start: When its prompt was whole and its request was sent.
        segments: Its speculative prefills: from, to, new tokens.
        confidence: exp(mean log-probability of its tokens); None where the servers were not asked for them.
        backend: How its server was spoken to.
        speculation: What was prefilled ahead (`router.speculative_prefill.speculation.Speculation`).
    """

    agent: str
    cluster: str
    layer: int
    model: str
    reads: tuple[str, ...] = ()
    state: AgentState = "waiting"
    error: str | None = None
    attempts: int = 0
    began: float | None = None
    start: float | None = None
    first_token: float | None = None
    end: float | None = None
    segments: list[tuple[float, float, int]] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    finish_reason: str | None = None
    confidence: float | None = None
    text: str = ""
    output_ids: list[int] = field(default_factory=list)
    backend: str | None = None
    speculation: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state not in ("waiting", "running")

    def usage(self) -> dict[str, int]:
        """Its tokens in OpenAI's form."""
        return _usage([self])


@dataclass
class RunTrace:
    """One question through one tree, or the agents that a client's requests named as one run."""

    tree: str
    arm: str
    order: str
    id: str
    question: str = ""
    seed: int | None = None
    created: float = field(default_factory=time.time)
    state: RunState = "running"
    error: str | None = None
    agents: list[AgentTrace] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    _zero: float = field(default_factory=time.monotonic, repr=False)
    _ended: float | None = field(default=None, repr=False)

    def now(self) -> float:
        """Seconds since the run began."""
        return self.at(time.monotonic())

    def at(self, moment: float) -> float:
        """A moment of the monotonic clock as seconds since the run began."""
        return round(max(moment - self._zero, 0.0), 4)

    def end(self, state: RunState, error: str | None = None) -> None:
        """Nothing more happens; agents that were under way are aborted with it."""
        self.state, self.error, self._ended = state, error, self.now()
        for agent in self.agents:
            if not agent.ended:
                agent.state = "skipped" if agent.start is None else "aborted"
                agent.end = self._ended

    def resume(self) -> None:
        """It goes on: another agent has come."""
        self.state, self.error, self._ended = "running", None, None

    def usage(self) -> dict[str, int]:
        """Tokens over all agents, in OpenAI's form."""
        return total_usage([self])

    def to_json(self) -> dict[str, Any]:
        """The trace as it is answered under `moa` and by `/runs/{id}`."""
        return {
            "run": self.id,
            "tree": self.tree,
            "arm": self.arm,
            "order": self.order,
            "seed": self.seed,
            "created": self.created,
            "state": self.state,
            "error": self.error,
            "seconds": self.now() if self._ended is None else self._ended,
            "question": self.question,
            "usage": self.usage(),
            "agents": [_plain(agent) for agent in self.agents],
            "decisions": self.decisions,
        }


def total_usage(traces: Iterable[RunTrace]) -> dict[str, int]:
    """Tokens over all agents of runs, in OpenAI's form."""
    return _usage([agent for trace in traces for agent in trace.agents])


def _usage(agents: list[AgentTrace]) -> dict[str, int]:
    prompt = sum(agent.prompt_tokens for agent in agents)
    completion = sum(agent.completion_tokens for agent in agents)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _plain(agent: AgentTrace) -> dict[str, Any]:
    """As `asdict`, which would copy thousands of ids one by one."""
    return {each.name: getattr(agent, each.name) for each in fields(agent)}
