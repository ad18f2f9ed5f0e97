"""The figures on the page: of the run, and of each agent."""

from dataclasses import dataclass

from router.timeline.formatting import DASH, count, percent, score, seconds
from router.timeline.record import AgentRecord, RunRecord


@dataclass(frozen=True)
class Fact:
    """A label and its value; `note` is in smaller print."""

    label: str
    value: str
    note: str = ""


def run_facts(record: RunRecord) -> list[Fact]:
    """The figures under the page's title."""
    usage, agents = record.usage, record.agents
    cached = sum(agent.cached_tokens for agent in agents)
    speculated = sum(agent.speculation.speculated for agent in agents)
    used = sum(agent.speculation.used for agent in agents)
    aborted = sum(agent.state == "aborted" for agent in agents)
    skipped = sum(agent.state == "skipped" for agent in agents)
    done = sum(agent.state == "done" for agent in agents)
    stopped = [f"{n} {label}" for n, label in ((aborted, "aborted"), (skipped, "never sent")) if n]
    facts = [
        Fact("So far" if record.state == "running" else "End to end", seconds(record.seconds)),
        Fact("Agents done", f"{done} of {len(agents)}", ", ".join(stopped)),
        Fact("Prompt tokens", count(usage.prompt_tokens), f"{percent(cached, usage.prompt_tokens)} cached"),
        Fact("Answer tokens", count(usage.completion_tokens)),
    ]
    if speculated:
        facts.append(Fact("Prefilled ahead", count(speculated), f"{percent(used, speculated)} used"))
    reasons = [agent.speculation.reason for agent in agents if agent.speculation.reason is not None]
    if reasons:
        facts.append(Fact("Not prefilled ahead", f"{len(reasons)} of {len(agents)}", ", ".join(sorted(set(reasons)))))
    return facts


def agent_facts(agent: AgentRecord) -> list[Fact]:
    """The figures of an agent's panel."""
    speculation = agent.speculation
    first_token_after = (
        None if agent.start is None or agent.first_token is None else max(0.0, agent.first_token - agent.start)
    )
    facts = [
        Fact("Model", agent.model),
        Fact("State", agent.state, f"{agent.attempts} attempts" if agent.attempts > 1 else ""),
        Fact("Began", seconds(agent.began)),
        Fact("Sent", seconds(agent.start)),
        Fact(
            "First token",
            seconds(agent.first_token),
            f"{seconds(first_token_after)} after sent" if first_token_after is not None else "",
        ),
        Fact("Ended", seconds(agent.end)),
        Fact("Prompt", count(agent.prompt_tokens), "tokens"),
        Fact("Cached", count(agent.cached_tokens), f"{percent(agent.cached_tokens, agent.prompt_tokens)} of prompt"),
        Fact("Answer", count(agent.completion_tokens), "tokens"),
        Fact("Finish reason", agent.finish_reason or DASH),
        Fact("Confidence", score(agent.confidence)),
    ]
    if speculation.segments or speculation.speculated or speculation.failed:
        problems = [f"{n} {label}" for n, label in ((speculation.failed, "failed"), (speculation.moves, "moved")) if n]
        mode = [f"{speculation.mode} mode"] if speculation.mode else []
        facts += [
            Fact("Segments", count(speculation.segments), ", ".join([*problems, *mode])),
            Fact("Prefilled ahead", count(speculation.speculated), "tokens"),
            Fact("Used", count(speculation.used), "tokens"),
            Fact("Wasted", count(speculation.wasted), "tokens"),
            Fact("Tail", count(speculation.tail), "tokens left for the end"),
        ]
    elif speculation.reason is not None:
        facts.append(Fact("Prefilled ahead", count(0), speculation.reason))
    return facts
