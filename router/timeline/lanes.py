"""The timeline's drawing: bars and marks in percent of the width, grouped by layer and cluster."""

from dataclasses import dataclass
from itertools import groupby

from router.timeline.axis import Axis
from router.timeline.record import AgentRecord, DecisionRecord, Record
from router.timeline.spans import Row, Span
from router.timeline.words import NOTHING, PHASES, count, score, seconds, width

NARROWEST = 360  # pixels of the plot in the narrowest window that the page is made for
MARK_FONT, MARK_RADIUS = 11, 6


@dataclass(frozen=True)
class Bar:
    """A phase; `x` and `width` in percent."""

    phase: str
    x: float
    width: float
    open: bool
    tip: str


@dataclass(frozen=True)
class Mark:
    """A decision on its cluster's lane. `anchor` says on which side of it the label stands; none without room."""

    x: float
    exit: bool
    label: str
    anchor: str
    tip: str


@dataclass(frozen=True)
class Line:
    """An agent's row; `number` is its place in the trace, `cross` where it was stopped, in percent."""

    number: int
    agent: AgentRecord
    bars: tuple[Bar, ...]
    cross: float | None
    note: str
    summary: str


@dataclass(frozen=True)
class Group:
    """A cluster's rows; `exits` are the times of its early exits, in percent."""

    cluster: str
    layer: int
    marks: tuple[Mark, ...]
    exits: tuple[float, ...]
    lines: tuple[Line, ...]


def groups(record: Record, rows: list[Row], axis: Axis) -> list[Group]:
    """The clusters, first layer first; agents keep their order."""
    numbered = sorted(enumerate(rows), key=lambda pair: pair[1].agent.layer)
    order = {key: place for place, key in enumerate(dict.fromkeys(_place(row) for _, row in numbered))}
    numbered.sort(key=lambda pair: order[_place(pair[1])])
    found: list[Group] = []
    for (layer, cluster), members in groupby(numbered, key=lambda pair: _place(pair[1])):
        decisions = sorted((d for d in record.decisions if d.cluster == cluster), key=lambda decision: decision.at)
        marks = _marks(decisions, axis)
        exits = tuple(axis.at(decision.at) for decision in decisions if decision.exit)
        found.append(Group(cluster, layer, marks, exits, tuple(_line(number, row, axis) for number, row in members)))
    return found


def decision_words(decision: DecisionRecord) -> str:
    """What was decided, for a tooltip."""
    verdict = "exit" if decision.exit else "go on"
    scores = " · ".join(f"{letter} {score(getattr(decision, letter))}" for letter in "CPBQu")
    lines = [f"{decision.cluster}: {verdict} at {seconds(decision.at)}", f"{scores} · rule {decision.rule or NOTHING}"]
    lines += [f"answers: {', '.join(decision.answers)}"] if decision.answers else []
    lines += [f"majority: {decision.majority}"] if decision.majority is not None else []
    lines += [f"problem: {decision.problem}"] if decision.problem is not None else []
    return "\n".join(lines)


def _place(row: Row) -> tuple[int, str]:
    return row.agent.layer, row.agent.cluster


def _line(number: int, row: Row, axis: Axis) -> Line:
    bars = tuple(_bar(row.agent, span, axis) for span in row.spans)
    phases = ", ".join(f"{PHASES[span.phase]} {seconds(span.seconds)}" for span in row.spans)
    summary = f"{row.agent.agent}: {row.agent.state}. {phases or row.note}."
    cross = None if row.stopped is None else axis.at(row.stopped)
    return Line(number, row.agent, bars, cross, row.note, summary)


def _bar(agent: AgentRecord, span: Span, axis: Axis) -> Bar:
    x = axis.at(span.start)
    name = PHASES[span.phase] if span.phase == span.during else f"{PHASES[span.phase]} during {PHASES[span.during]}"
    if span.phase == "wait":
        name = "waits for its upstreams" if agent.reads else "queued"
    lines = [f"{agent.agent}: {name}", f"{seconds(span.start)} to {seconds(span.end)}, {seconds(span.seconds)} long"]
    lines += [f"{count(span.tokens)} tokens"] if span.tokens is not None else []
    lines += ["still going on"] if span.open else []
    return Bar(span.phase, x, max(0.0, round(axis.at(span.end) - x, 4)), span.open, "\n".join(lines))


def _marks(decisions: list[DecisionRecord], axis: Axis) -> tuple[Mark, ...]:
    """Labels go right of their mark, else left, else nowhere: they never touch, in any window."""
    spots = [axis.at(decision.at) * NARROWEST / 100 for decision in decisions]
    marks: list[Mark] = []
    taken = 0.0
    for place, (decision, spot) in enumerate(zip(decisions, spots, strict=True)):
        label = f"exit {score(decision.Q)}" if decision.exit and decision.Q is not None else ""
        label = label or ("exit" if decision.exit else score(decision.Q) if decision.Q is not None else "")
        room = width(label, MARK_FONT) + MARK_RADIUS + 8
        after = spots[place + 1] - MARK_RADIUS if place + 1 < len(spots) else float(NARROWEST)
        anchor = "start" if spot + room <= after else "end" if spot - room >= taken else ""
        taken = spot + (room if anchor == "start" else MARK_RADIUS)
        marks.append(
            Mark(axis.at(decision.at), decision.exit, label, anchor if label else "", decision_words(decision))
        )
    return tuple(marks)
