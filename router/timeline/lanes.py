"""The drawing of the timeline: bars and marks by layer and cluster. Positions are in percent of the width."""

from dataclasses import dataclass
from itertools import groupby

from router.timeline.axis import Axis
from router.timeline.formatting import DASH, PHASES, count, score, seconds, width
from router.timeline.record import AgentRecord, DecisionRecord, RunRecord
from router.timeline.spans import Row, Span

MIN_PLOT_WIDTH = 360  # pixels, in the narrowest window that the page supports
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
    """A decision on its cluster's lane; `anchor` is the SVG text anchor of its label, empty without a label."""

    x: float
    exit: bool
    label: str
    anchor: str
    tip: str


@dataclass(frozen=True)
class AgentLane:
    """One agent; `number` is its index in the trace, `cross` the position at which it was stopped."""

    number: int
    agent: AgentRecord
    bars: tuple[Bar, ...]
    cross: float | None
    note: str
    summary: str


@dataclass(frozen=True)
class ClusterLanes:
    """One cluster and its agents; `exits` are the positions of its early exits."""

    cluster: str
    layer: int
    marks: tuple[Mark, ...]
    exits: tuple[float, ...]
    lines: tuple[AgentLane, ...]


def groups(record: RunRecord, rows: list[Row], axis: Axis) -> list[ClusterLanes]:
    """The clusters, first layer first; agents keep their order."""
    numbered = sorted(enumerate(rows), key=lambda pair: pair[1].agent.layer)
    order = {key: index for index, key in enumerate(dict.fromkeys(_cluster_key(row) for _, row in numbered))}
    numbered.sort(key=lambda pair: order[_cluster_key(pair[1])])
    lanes: list[ClusterLanes] = []
    for (layer, cluster), members in groupby(numbered, key=lambda pair: _cluster_key(pair[1])):
        decisions = sorted((d for d in record.decisions if d.cluster == cluster), key=lambda decision: decision.at)
        marks = _marks(decisions, axis)
        exits = tuple(axis.at(decision.at) for decision in decisions if decision.exit)
        lanes.append(
            ClusterLanes(cluster, layer, marks, exits, tuple(_agent_lane(number, row, axis) for number, row in members))
        )
    return lanes


def decision_tooltip(decision: DecisionRecord) -> str:
    """A decision in words."""
    verdict = "exit" if decision.exit else "go on"
    scores = " · ".join(f"{letter} {score(getattr(decision, letter))}" for letter in "CPBQu")
    lines = [f"{decision.cluster}: {verdict} at {seconds(decision.at)}", f"{scores} · rule {decision.rule or DASH}"]
    lines += [f"answers: {', '.join(decision.answers)}"] if decision.answers else []
    lines += [f"majority: {decision.majority}"] if decision.majority is not None else []
    lines += [f"problem: {decision.problem}"] if decision.problem is not None else []
    return "\n".join(lines)


def _cluster_key(row: Row) -> tuple[int, str]:
    return row.agent.layer, row.agent.cluster


def _agent_lane(number: int, row: Row, axis: Axis) -> AgentLane:
    bars = tuple(_bar(row.agent, span, axis) for span in row.spans)
    phases = ", ".join(f"{PHASES[span.phase]} {seconds(span.seconds)}" for span in row.spans)
    summary = f"{row.agent.agent}: {row.agent.state}. {phases or row.note}."
    cross = None if row.stopped is None else axis.at(row.stopped)
    return AgentLane(number, row.agent, bars, cross, row.note, summary)


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
    """A label stands right of its mark, else left, else it is left out: labels never overlap, in any window."""
    positions = [axis.at(decision.at) * MIN_PLOT_WIDTH / 100 for decision in decisions]
    marks: list[Mark] = []
    occupied = 0.0
    for index, (decision, position) in enumerate(zip(decisions, positions, strict=True)):
        label = f"exit {score(decision.Q)}" if decision.exit and decision.Q is not None else ""
        label = label or ("exit" if decision.exit else score(decision.Q) if decision.Q is not None else "")
        needed = width(label, MARK_FONT) + MARK_RADIUS + 8
        free_until = positions[index + 1] - MARK_RADIUS if index + 1 < len(positions) else float(MIN_PLOT_WIDTH)
        anchor = "start" if position + needed <= free_until else "end" if position - needed >= occupied else ""
        occupied = position + (needed if anchor == "start" else MARK_RADIUS)
        marks.append(
            Mark(axis.at(decision.at), decision.exit, label, anchor if label else "", decision_tooltip(decision))
        )
    return tuple(marks)
