"""The trace of a run: its agents, their tokens and times, and the early-exit decisions."""

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Literal

MAX_QUESTION = 4096  # characters of a question that a trace keeps: enough to tell runs apart
ID_BYTES = 40  # of a token id in a list
REDACTED = "(redacted)"  # in place of an error's sentence
AGENT_BYTES = 2048  # of an agent's trace without its text and token ids

AgentState = Literal["waiting", "running", "done", "aborted", "skipped", "failed"]
RunState = Literal["running", "done", "failed", "cancelled"]


@dataclass
class AgentTrace:
    """One agent of a run. Times are seconds since the start of the run; counts are tokens.

    Attributes:
        reads: The clusters whose answers it reads; for agents named by a client's requests, the agents.
        state: `waiting` until its request is sent. An early exit makes it `aborted`, or `skipped` when its request
            was not sent yet.
        error: Why it failed; or why an earlier attempt failed, when a retry succeeded.
        attempts: How often its request was sent.
        began: When its prompt was started.
        start: When its prompt was complete and its request was sent.
        segments: Segments prefilled speculatively: start, end, new tokens.
        confidence: exp of the mean log-probability of its tokens; None where log-probabilities were not requested.
        reasoning: What its model thought before it answered, where the server tells that apart; no reader gets it.
        backend: What served it: `pair` or `plain`.
        server_seconds: Of a pair, where its servers tell: how long their `handshake` took, for which a decode server
            without room lets it wait, how long it was in their `queue`, and their `prefill` and `transfer` of KV took.
        speculation: The fields of `router.speculative_prefill.speculation.SpeculationStats`; or, where the arm asks for
            speculative prefill and what served the agent has none, `used` 0 and the `reason`.
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
    reasoning: str = ""
    output_ids: list[int] = field(default_factory=list)
    backend: str | None = None
    server_seconds: dict[str, float] = field(default_factory=dict)
    speculation: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        texts = sys.getsizeof(self.text) + sys.getsizeof(self.reasoning)
        return AGENT_BYTES + texts + ID_BYTES * len(self.output_ids)

    @property
    def ended(self) -> bool:
        """Whether it is done, aborted, skipped or failed."""
        return self.state not in ("waiting", "running")

    def usage(self) -> dict[str, int]:
        """Its tokens as OpenAI's `usage`."""
        return _usage([self])

    def redact(self) -> None:
        """Forget what it said; an error may quote its prompt, so of that only remains that there was one."""
        self.text, self.reasoning, self.output_ids = "", "", []
        self.error = _redacted(self.error)

    def to_json(self, *, with_text: bool = True) -> dict[str, Any]:
        """As `dataclasses.asdict`, which would copy thousands of token ids one by one."""
        told = {member.name: getattr(self, member.name) for member in fields(self)}
        if not with_text:
            told.update(text="", reasoning="", output_ids=[], error=_redacted(self.error))
        return told


@dataclass
class RunTrace:
    """One question through one tree, or the agents that a client's requests named as one run.

    Attributes:
        question: The start of the question.
        created: The start, in seconds since the epoch.
        owner: The namespace of the client that asked for it.
    """

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
    owner: str = ""
    _started_at: float = field(default_factory=time.monotonic, repr=False)
    _duration: float | None = field(default=None, repr=False)
    _final_size: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if len(self.question) > MAX_QUESTION:
            self.question = f"{self.question[:MAX_QUESTION]} ... ({len(self.question)} characters)"

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        if self._final_size is not None:
            return self._final_size
        return sys.getsizeof(self.question) + sum(agent.size for agent in self.agents)

    def now(self) -> float:
        """Seconds since the start of the run."""
        return self.at(time.monotonic())

    def at(self, monotonic_time: float) -> float:
        """A time of the monotonic clock as seconds since the start of the run."""
        return round(max(monotonic_time - self._started_at, 0.0), 4)

    def end(self, state: RunState, error: str | None = None) -> None:
        """The run is over; agents that still run are aborted, those not started skipped."""
        self.state, self.error, self._duration = state, error, self.now()
        for agent in self.agents:
            if not agent.ended:
                agent.state = "skipped" if agent.start is None else "aborted"
                agent.end = self._duration
        self._final_size = None
        self._final_size = self.size

    def resume(self) -> None:
        """Another agent joined a run that had ended."""
        self.state, self.error, self._duration, self._final_size = "running", None, None, None

    def redact(self) -> None:
        """Forget what its prompts and answers said; counts and times stay."""
        self.question, self.error = "", _redacted(self.error)
        self.decisions = [_without_votes(decision) for decision in self.decisions]
        for agent in self.agents:
            agent.redact()
        if self._final_size is not None:
            self._final_size = None
            self._final_size = self.size

    def usage(self) -> dict[str, int]:
        """Tokens of all agents as OpenAI's `usage`."""
        return total_usage([self])

    def to_json(self, *, with_owner: bool = False, with_text: bool = True) -> dict[str, Any]:
        """The trace, as in the field `moa` of a response and in `/runs/{id}`.

        Args:
            with_owner: Whether it tells its owner, if it has one.
            with_text: Whether it tells what prompts and answers say.
        """
        return {
            "run": self.id,
            "tree": self.tree,
            "arm": self.arm,
            "order": self.order,
            "seed": self.seed,
            "created": self.created,
            "state": self.state,
            "error": self.error if with_text else _redacted(self.error),
            "seconds": self.now() if self._duration is None else self._duration,
            "question": self.question if with_text else "",
            "usage": self.usage(),
            "agents": [agent.to_json(with_text=with_text) for agent in self.agents],
            "decisions": self.decisions if with_text else [_without_votes(each) for each in self.decisions],
            **({"owner": self.owner} if with_owner and self.owner else {}),
        }


def total_usage(traces: Iterable[RunTrace]) -> dict[str, int]:
    """Tokens of all agents of several runs as OpenAI's `usage`."""
    return _usage([agent for trace in traces for agent in trace.agents])


def _usage(agents: list[AgentTrace]) -> dict[str, int]:
    prompt = sum(agent.prompt_tokens for agent in agents)
    completion = sum(agent.completion_tokens for agent in agents)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _redacted(error: str | None) -> str | None:
    return None if error is None else REDACTED


def _without_votes(decision: dict[str, Any]) -> dict[str, Any]:
    """A decision without what it took from answers."""
    problem = _redacted(decision.get("problem"))
    return {**decision, "extracted": [None] * len(decision.get("extracted", ())), "majority": None, "problem": problem}
