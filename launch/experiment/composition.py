"""What the critical path of a run consists of: the seconds of each part, which sum to the run's latency.

    router      before the run begins and after its last token: HTTP, admission
    waiting     the reader's prompt is not begun, though all that it reads is complete
    judge       the decision of early exit for which a reader waits
    tokenize    composing the prompt at the end of what is read, and what servers do first: HTTP, tokenizing
    handshake   of a pair, until its decode server has room  (where the servers tell it; else it is part of tokenize)
    queue       on the servers, before prefill        (where the servers tell it; else it is part of prefill)
    prefill     of the prompt, or of what of it was left
    transfer    of the KV to the decode server        (where the servers tell it; else it is part of prefill)
    decode      from the first token to the last

Waiting for upstream agents is no part of its own here: the path goes through the agent that is waited for. How long
agents off the path wait is in `waiting_for_upstream`.
"""

from collections.abc import Sequence

from router.timeline.critical_path import critical_path
from router.timeline.record import AgentRecord, DecisionRecord, RunRecord

PARTS = ("router", "waiting", "judge", "tokenize", "handshake", "queue", "prefill", "transfer", "decode")


def composition(record: RunRecord, latency: float) -> dict[str, float]:
    """Seconds by part; `latency` is what the client saw."""
    parts = dict.fromkeys(PARTS, 0.0)
    agents = {agent.agent: agent for agent in record.agents}
    before = 0.0
    for step in critical_path(record):
        agent = agents[step.agent]
        end = max(before, agent.end if agent.end is not None else record.seconds)
        sent = _within(agent.start, before, end)
        first = _within(agent.first_token, sent, end)
        _add_gap(parts, agent, record.decisions, before, sent)
        _add_prefill(parts, agent, sent, first)
        parts["decode"] += end - first
        before = end
    parts["router"] += max(0.0, latency - before)
    return parts


def layer_composition(record: RunRecord, layer: int) -> dict[str, float]:
    """Seconds by part of the slowest agent of a layer, from the end of what it reads to its own; 0 if none is done."""
    slowest = dict.fromkeys(PARTS, 0.0)
    for agent in record.agents:
        if agent.layer != layer or agent.state != "done" or agent.end is None:
            continue
        read = [each.end or 0.0 for each in record.agents if each.cluster in agent.reads and each.state == "done"]
        ready = min(max(read, default=0.0), agent.end)
        parts = dict.fromkeys(PARTS, 0.0)
        sent = _within(agent.start, ready, agent.end)
        first = _within(agent.first_token, sent, agent.end)
        _add_gap(parts, agent, record.decisions, ready, sent)
        _add_prefill(parts, agent, sent, first)
        parts["decode"] = agent.end - first
        slowest = max(slowest, parts, key=lambda each: sum(each.values()))
    return slowest


def waiting_for_upstream(record: RunRecord) -> float:
    """Seconds from the beginning of the final agent's prompt until its request is sent."""
    final = record.agents[-1]
    return max(0.0, (final.start or 0.0) - (final.began or 0.0))


def _add_gap(
    parts: dict[str, float], agent: AgentRecord, decisions: Sequence[DecisionRecord], start: float, end: float
) -> None:
    """Share out the time between the last answer that an agent reads and its request."""
    judged = max(
        (_overlap(each.at - each.seconds, each.at, start, end) for each in decisions if each.cluster in agent.reads),
        default=0.0,
    )
    ahead = max((_overlap(since, until, start, end) for since, until, _ in agent.segments), default=0.0)
    rest = max(0.0, end - start - judged)
    ahead = min(ahead, rest)
    waiting = min(rest - ahead, max(0.0, _within(agent.began, start, end) - start))
    parts["judge"] += judged
    parts["prefill"] += ahead
    parts["waiting"] += waiting
    parts["tokenize"] += rest - ahead - waiting


def _add_prefill(parts: dict[str, float], agent: AgentRecord, sent: float, first: float) -> None:
    """Share out the time from an agent's request to its first token, in the proportions that its servers tell."""
    total = first - sent
    told = {
        "handshake": agent.server_seconds.handshake,
        "queue": agent.server_seconds.queue,
        "prefill": agent.server_seconds.prefill,
        "transfer": agent.server_seconds.transfer,
    }
    known = sum(seconds or 0.0 for seconds in told.values())
    if not known or told["prefill"] is None:
        parts["prefill"] += total
        return
    shrink = min(1.0, total / known)
    for part, seconds in told.items():
        parts[part] += (seconds or 0.0) * shrink
    parts["tokenize"] += total - known * shrink


def _within(time: float | None, low: float, high: float) -> float:
    return high if time is None else min(max(low, time), high)


def _overlap(a: float, b: float, start: float, end: float) -> float:
    return max(0.0, min(b, end) - max(a, start))
