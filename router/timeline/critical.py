"""The critical path: the chain of answers that each waited for the one before."""

from dataclasses import dataclass

from router.timeline.record import AgentRecord, Record


@dataclass(frozen=True)
class Step:
    """One agent of the path; `seconds` is what it added after the step before it ended."""

    agent: str
    end: float
    seconds: float


def critical_path(record: Record) -> list[Step]:
    """From the first agent to the last that was begun; empty when nothing was."""
    begun = [agent for agent in record.agents if agent.state != "skipped" and _begun(agent)]
    if not begun:
        return []
    agent = max(begun, key=lambda agent: (agent.layer, _end(agent, record)))
    path = [agent]
    while (upstream := _slowest(agent, record)) is not None:
        path.append(upstream)
        agent = upstream
    steps: list[Step] = []
    before = 0.0
    for agent in reversed(path):
        end = max(before, _end(agent, record))
        steps.append(Step(agent.agent, end, end - before))
        before = end
    return steps


def _slowest(agent: AgentRecord, record: Record) -> AgentRecord | None:
    """The upstream whose answer came last. An aborted one held nobody up: its cluster had exited."""
    upstream = [
        other
        for other in record.agents
        if other.cluster in agent.reads and other.layer < agent.layer and other.state in ("done", "running", "failed")
    ]
    upstream = [other for other in upstream if _begun(other)]
    return max(upstream, key=lambda other: _end(other, record), default=None)


def _begun(agent: AgentRecord) -> bool:
    return agent.began is not None or agent.start is not None


def _end(agent: AgentRecord, record: Record) -> float:
    return record.seconds if agent.end is None else agent.end
