"""The critical path: the chain of agents in which each waited for the one before."""

from dataclasses import dataclass

from router.timeline.record import AgentRecord, RunRecord


@dataclass(frozen=True)
class Step:
    """One agent of the path; `seconds` is the time from the end of the step before to its own end."""

    agent: str
    end: float
    seconds: float


def critical_path(record: RunRecord) -> list[Step]:
    """The path from the first agent to the last one that has begun; empty if none has."""
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


def _slowest(agent: AgentRecord, record: RunRecord) -> AgentRecord | None:
    """The upstream agent whose answer came last. Aborted ones delayed nobody: their cluster had exited."""
    upstream = [
        other
        for other in record.agents
        if other.cluster in agent.reads and other.layer < agent.layer and other.state in ("done", "running", "failed")
    ]
    upstream = [other for other in upstream if _begun(other)]
    return max(upstream, key=lambda other: _end(other, record), default=None)


def _begun(agent: AgentRecord) -> bool:
    return agent.began is not None or agent.start is not None


def _end(agent: AgentRecord, record: RunRecord) -> float:
    return record.seconds if agent.end is None else agent.end
