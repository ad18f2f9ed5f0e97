"""What the page says in numbers: of the whole run, and of one agent."""

from dataclasses import dataclass

from router.timeline.record import AgentRecord, Record
from router.timeline.words import NOTHING, count, percent, score, seconds


@dataclass(frozen=True)
class Fact:
    """A label and its value; `note` is smaller print."""

    label: str
    value: str
    note: str = ""


def of_run(record: Record) -> list[Fact]:
    """The figures under the title."""
    usage, agents = record.usage, record.agents
    cached = sum(agent.cached_tokens for agent in agents)
    ahead = sum(agent.speculation.speculated for agent in agents)
    used = sum(agent.speculation.used for agent in agents)
    aborted = sum(agent.state == "aborted" for agent in agents)
    skipped = sum(agent.state == "skipped" for agent in agents)
    done = sum(agent.state == "done" for agent in agents)
    stopped = [f"{n} {word}" for n, word in ((aborted, "aborted"), (skipped, "never sent")) if n]
    facts = [
        Fact("So far" if record.state == "running" else "End to end", seconds(record.seconds)),
        Fact("Agents done", f"{done} of {len(agents)}", ", ".join(stopped)),
        Fact("Prompt tokens", count(usage.prompt_tokens), f"{percent(cached, usage.prompt_tokens)} cached"),
        Fact("Answer tokens", count(usage.completion_tokens)),
    ]
    if ahead:
        facts.append(Fact("Prefilled ahead", count(ahead), f"{percent(used, ahead)} used"))
    return facts


def of_agent(agent: AgentRecord) -> list[Fact]:
    """The figures of an agent's panel."""
    told = agent.speculation
    first = None if agent.start is None or agent.first_token is None else max(0.0, agent.first_token - agent.start)
    facts = [
        Fact("Model", agent.model),
        Fact("State", agent.state, f"{agent.attempts} attempts" if agent.attempts > 1 else ""),
        Fact("Began", seconds(agent.began)),
        Fact("Sent", seconds(agent.start)),
        Fact("First token", seconds(agent.first_token), f"{seconds(first)} after sent" if first is not None else ""),
        Fact("Ended", seconds(agent.end)),
        Fact("Prompt", count(agent.prompt_tokens), "tokens"),
        Fact("Cached", count(agent.cached_tokens), f"{percent(agent.cached_tokens, agent.prompt_tokens)} of prompt"),
        Fact("Answer", count(agent.completion_tokens), "tokens"),
        Fact("Finish reason", agent.finish_reason or NOTHING),
        Fact("Confidence", score(agent.confidence)),
    ]
    if told.segments or told.speculated or told.failed:
        troubles = [f"{n} {word}" for n, word in ((told.failed, "failed"), (told.moves, "moved")) if n]
        mode = [f"{told.mode} mode"] if told.mode else []
        facts += [
            Fact("Segments", count(told.segments), ", ".join([*troubles, *mode])),
            Fact("Prefilled ahead", count(told.speculated), "tokens"),
            Fact("Used", count(told.used), "tokens"),
            Fact("Wasted", count(told.wasted), "tokens"),
            Fact("Tail", count(told.tail), "tokens left for the end"),
        ]
    return facts
