"""The phases of each agent over time; they do not overlap, and none has a negative length."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from router.timeline.record import AgentRecord, RunRecord

Phase = Literal["wait", "speculative", "prefill", "decode", "aborted", "failed"]


@dataclass(frozen=True)
class Span:
    """One phase, in seconds since the run began; `end` is after `start`.

    Attributes:
        during: The phase in which an aborted or failed phase was stopped; otherwise the phase itself.
        tokens: Tokens prefilled or decoded in it; None for phases without tokens.
        open: It has not ended: the trace is of a run in progress.
    """

    phase: Phase
    start: float
    end: float
    during: Phase
    tokens: int | None = None
    open: bool = False

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return self.end - self.start


@dataclass(frozen=True)
class Row:
    """One agent's row in the timeline.

    Attributes:
        stopped: When it was aborted or failed; None otherwise.
        note: Shown instead of bars; empty if there are bars.
    """

    agent: AgentRecord
    spans: tuple[Span, ...]
    stopped: float | None
    note: str


def rows(record: RunRecord) -> list[Row]:
    """One row for each agent, in the order of the trace. Open phases end at the run's `seconds`."""
    return [_row(agent, record) for agent in record.agents]


def _row(agent: AgentRecord, record: RunRecord) -> Row:
    spans = [] if agent.state == "skipped" else list(_phases(agent, record.seconds))
    stopped = agent.end if agent.state in ("aborted", "failed") else None
    if spans:
        spans[-1] = _last(spans[-1], agent, running=record.state == "running")
    return Row(agent, tuple(spans), stopped, "" if spans else _note(agent, record))


def _phases(agent: AgentRecord, now: float) -> Iterator[Span]:
    """The phases of an agent that has begun. A time that is out of order is moved up to the one before it."""
    known = [agent.began, *(segment[0] for segment in agent.segments), agent.start, agent.first_token]
    cursor = next((time for time in known if time is not None), None)
    if cursor is None:
        return
    end = max(cursor, now if agent.end is None else agent.end)
    sent = _clamp(cursor, agent.start if agent.start is not None else agent.first_token, end)
    first = _clamp(sent, agent.first_token, end)
    for since, until, tokens in sorted(agent.segments):
        start, stop = max(cursor, since), min(until, sent)
        if stop > start:
            yield from _span("wait", cursor, start)
            yield from _span("speculative", start, stop, tokens)
            cursor = stop
    yield from _span("wait", cursor, sent)
    yield from _span("prefill", sent, first, max(0, agent.prompt_tokens - agent.cached_tokens))
    yield from _span("decode", first, end, agent.completion_tokens)


def _clamp(low: float, time: float | None, high: float) -> float:
    return high if time is None else min(max(low, time), high)


def _span(phase: Phase, start: float, end: float, tokens: int | None = None) -> Iterator[Span]:
    if end > start:
        yield Span(phase, start, end, phase, tokens)


def _last(span: Span, agent: AgentRecord, *, running: bool) -> Span:
    match agent.state:
        case "aborted" | "failed" as cut:
            return replace(span, phase=cut)
        case _:
            return replace(span, open=running and agent.end is None)


def _note(agent: AgentRecord, record: RunRecord) -> str:
    if agent.state == "failed":
        return "failed before it was sent"
    if agent.state == "aborted":
        return "aborted before it was sent"
    if agent.state == "done":
        return "took no time"
    return "waiting" if agent.state != "skipped" and record.state == "running" else "never sent"
