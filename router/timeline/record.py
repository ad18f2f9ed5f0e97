"""A run's trace, as `GET /runs/{id}` answers it, as types. All times are seconds since the run began."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router.errors import BadRequest

Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
AgentState = Literal["waiting", "running", "done", "aborted", "skipped", "failed"]
RunState = Literal["running", "done", "failed", "cancelled"]


class TracePart(BaseModel):
    """A part of a trace. Unknown keys are ignored, so that the trace of a newer router can be shown."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class SpeculationRecord(TracePart):
    """Speculative prefill of an agent's prompt; all counts are tokens, except `segments`, `failed` and `moves`."""

    segments: Count = 0
    failed: Count = 0
    moves: Count = 0
    speculated: Count = 0
    wasted: Count = 0
    used: Count = 0
    tail: Count | None = None
    mode: str | None = None
    reason: str | None = None
    """Why there was none, where the arm asked for it."""


class ServerSeconds(TracePart):
    """What a pair's servers tell of a request; None where they do not."""

    handshake: Seconds | None = None
    queue: Seconds | None = None
    prefill: Seconds | None = None
    transfer: Seconds | None = None


class AgentRecord(TracePart):
    """One agent's call.

    Attributes:
        began: When its prompt began to be composed.
        start: When its prompt was complete and its request was sent.
        segments: Its speculative prefills, as (start, end, tokens).
        end: When it was done, aborted or failed.
    """

    agent: str
    cluster: str
    layer: Count
    model: str
    reads: tuple[str, ...] = ()
    state: AgentState = "done"
    error: str | None = None
    attempts: Count = 1
    began: Seconds | None = None
    start: Seconds | None = None
    first_token: Seconds | None = None
    end: Seconds | None = None
    segments: tuple[tuple[Seconds, Seconds, Count], ...] = ()
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    cached_tokens: Count = 0
    finish_reason: str | None = None
    confidence: float | None = None
    text: str = ""
    server_seconds: ServerSeconds = ServerSeconds()
    speculation: SpeculationRecord = SpeculationRecord()


class DecisionRecord(TracePart):
    """One early-exit decision of a cluster; the letters are those of the Q-metric (arXiv 2512.18126)."""

    cluster: str
    at: Seconds
    answers: tuple[str, ...] = ()
    confidences: tuple[float | None, ...] = ()
    C: float | None = None
    P: float | None = None
    B: float | None = None
    Q: float | None = None
    u: float | None = None
    rule: str = ""
    majority: str | None = None
    exit: bool = False
    problem: str | None = None
    seconds: Seconds = 0.0


class Usage(TracePart):
    """Tokens of all agents."""

    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    total_tokens: Count = 0


class RunRecord(TracePart):
    """One run. `created` is in Unix seconds, `seconds` is its duration so far."""

    run: str
    tree: str
    arm: str
    order: str = "completion"
    created: Annotated[float, Field(ge=0, lt=2**37)] = 0.0
    state: RunState = "done"
    error: str | None = None
    seconds: Seconds
    question: str = ""
    usage: Usage = Usage()
    agents: tuple[AgentRecord, ...] = ()
    decisions: tuple[DecisionRecord, ...] = ()

    def cluster(self, name: str) -> list[AgentRecord]:
        """The agents of a cluster."""
        return [agent for agent in self.agents if agent.cluster == name]


def read_run(run: dict[str, Any]) -> RunRecord:
    """Read a trace.

    Raises:
        BadRequest: One sentence that names the first wrong key.
    """
    try:
        return RunRecord.model_validate(run)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the top"
        message = first["msg"]
        raise BadRequest(f"the trace is wrong at {key}: {message[0].lower()}{message[1:]}.") from None
