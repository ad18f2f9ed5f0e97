"""What one line of the log tells, as figures."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from launch.experiment.bounds import bound_seconds
from launch.experiment.composition import composition, layer_composition, waiting_for_upstream
from launch.experiment.run_line import RunLine
from router.moa.tree import Tree
from router.timeline.record import RunRecord, read_run

FEW_TOKENS = 8  # too few to tell a speed
FASTEST = 0.05  # the quantile of measured speeds that counts as that of a model alone


@dataclass(frozen=True)
class RunMeasures:
    """The figures of one run; times in seconds.

    Attributes:
        line: Its line.
        record: Its trace.
        seconds: The time that counts: its latency, or a layer's.
        parts: What `seconds` consists of.
        waiting: How long the final agent's prompt was open for what it reads.
        aborted_tokens: Tokens of agents that early exit ended; those never sent have none. Pairs tell of some
            tokens at a time (`STREAM_INTERVAL` in `router.moa.agent_on_pair`), so each may have decoded a few more.
        judged: What all its decisions on early exit took together; `parts` has those for which its latency waited.
        short: Agents that are done and did not answer as many tokens as was asked for.
        in_full_batch: Whether as many runs as the concurrency says began with it, and all of them were answered. The
            last batch may have fewer; of one that was killed or lost a run, only the faster ones may be there.
    """

    line: RunLine
    record: RunRecord
    seconds: float
    parts: dict[str, float]
    waiting: float
    aborted_tokens: int
    judged: float
    short: int
    in_full_batch: bool = False

    @property
    def batch(self) -> int:
        """The number of its batch in its benchmark and concurrency."""
        return self.line.index // self.line.concurrency


def with_batches(runs: Sequence[RunMeasures]) -> list[RunMeasures]:
    """The runs of a cell, each with whether its batch is full."""
    answered = Counter((run.line.arm, run.line.session, run.batch) for run in runs)
    return [
        replace(run, in_full_batch=answered[run.line.arm, run.line.session, run.batch] == run.line.concurrency)
        for run in runs
    ]


def measure(line: RunLine, layer: int | None = None) -> RunMeasures:
    """The figures of a line that has an answer; with `layer` those of that layer alone."""
    record = read_run(line.run)
    done = {agent.agent: agent.completion_tokens for agent in record.agents if agent.state == "done"}
    parts = composition(record, line.latency_s) if layer is None else layer_composition(record, layer)
    return RunMeasures(
        line=line,
        record=record,
        seconds=line.latency_s if layer is None else sum(parts.values()),
        parts=parts,
        waiting=waiting_for_upstream(record),
        aborted_tokens=sum(agent.completion_tokens for agent in record.agents if agent.state == "aborted"),
        judged=sum(decision.seconds for decision in record.decisions),
        short=sum(done.get(name, tokens) != tokens for name, tokens in line.lengths.items()),
    )


def measured_speeds(runs: list[RunMeasures]) -> dict[str, float]:
    """Milliseconds a token by model: those of its fastest answers, which hardly shared the machine."""
    speeds: dict[str, list[float]] = {}
    for run in runs:
        for agent in run.record.agents:
            if (
                agent.state == "done"
                and agent.completion_tokens >= FEW_TOKENS
                and None
                not in (
                    agent.end,
                    agent.first_token,
                )
            ):
                decode = (agent.end or 0.0) - (agent.first_token or 0.0)
                speeds.setdefault(agent.model, []).append(1000 * decode / (agent.completion_tokens - 1))
    return {model: float(np.quantile(found, FASTEST)) for model, found in speeds.items()}


def bound_of(run: RunMeasures, tree: Tree, ms_per_token: Mapping[str, float], layer: int | None = None) -> float | None:
    """The bound of a run's lengths: those asked for, or else those it had.

    What an agent would have written that was not waited for is then not known: it counts as longer than all others.
    """
    models = {agent.agent: agent.model for agent in run.record.agents}
    lengths: Mapping[str, float] = run.line.lengths or {
        agent.agent: agent.completion_tokens if agent.state == "done" else math.inf for agent in run.record.agents
    }
    if layer is not None:
        names = [agent.agent for agent in run.record.agents if agent.layer == layer]
        alone = [lengths.get(name, math.inf) * ms_per_token.get(models[name], math.inf) / 1000 for name in names]
        return max(alone) if alone and math.isfinite(max(alone)) else None
    return bound_seconds(tree, lengths, models, ms_per_token)
