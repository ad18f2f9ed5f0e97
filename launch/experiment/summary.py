"""The summary of an experiment: a cell for each benchmark and concurrency, the arms' figures and what sets them apart.

`summary.schema.json` is its schema. Times are seconds, unless a name says otherwise; shares are in [0, 1].
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, groupby
from pathlib import Path
from typing import Any

import numpy as np

from launch.experiment.composition import PARTS
from launch.experiment.config import ExperimentConfig
from launch.experiment.run_line import RunLine
from launch.experiment.run_log import read_identity, read_runs, read_sessions
from launch.experiment.run_measures import RunMeasures, bound_of, measure, measured_speeds, with_batches
from launch.experiment.statistics import latency_summary, mean_summary, paired_difference, ratio_interval
from launch.experiment.trees import trees_of
from router.moa.tree import Tree

VERSION = 2
STEPS = (("tree", "dense"), ("splice", "tree"), ("exit", "splice"))
"""What each idea saves: an arm, and the arm that has all of it but this idea."""


def summarise(folder: Path) -> dict[str, Any]:
    """The summary of the experiment in a folder.

    Raises:
        ConfigError: There is none, or its log is damaged.
    """
    identity = read_identity(folder)
    config = ExperimentConfig.model_validate(identity["config"])
    trees = trees_of(config)
    sessions = read_sessions(folder)
    lines = read_runs(folder)
    gpus = next((each.get("gpus") for each in reversed(sessions) if each.get("gpus") is not None), config.gpus)
    order = list(identity["benchmarks"])
    answered = sorted(
        (line for line in lines if line.error is None),
        key=lambda line: (order.index(line.benchmark), line.concurrency, line.index, line.arm),
    )
    lost = _still_failed(lines)
    cells = []
    for (benchmark, concurrency), group in groupby(answered, key=lambda line: (line.benchmark, line.concurrency)):
        failed = Counter(arm for name, at_once, _, arm in lost if (name, at_once) == (benchmark, concurrency))
        cell = _cell(with_batches([measure(line, config.layer) for line in group]), config, trees, gpus, failed)
        cells.append({"gpus": gpus, "concurrency": concurrency, "benchmark": benchmark, **cell})
    asked = {
        "seed": identity["seed"],
        "lengths": config.lengths,
        "scale": config.scale,
        "layer": config.layer,
        "questions": {name: len(ids) for name, ids in identity["benchmarks"].items()},
    }
    return {"version": VERSION, "hash": identity["hash"], **asked, "sessions": sessions, "cells": cells}


def _still_failed(lines: Sequence[RunLine]) -> set[tuple[str, int, str, str]]:
    """The keys of runs that failed and were not repeated with success."""
    return {line.key for line in lines if line.error is not None} - {line.key for line in lines if line.error is None}


def _cell(
    runs: list[RunMeasures],
    config: ExperimentConfig,
    trees: Mapping[str, Tree],
    gpus: int | None,
    failed: Mapping[str, int],
) -> dict[str, Any]:
    speeds = {**measured_speeds(runs), **config.ms_per_token}
    by_arm = {name: [run for run in runs if run.line.arm == name] for name in config.arms}
    by_arm = {name: found for name, found in by_arm.items() if found}
    arms = {name: _arm(found, trees[name], speeds, config, gpus, failed.get(name, 0)) for name, found in by_arm.items()}
    pairs = [_pair(name, against, by_arm) for against, name in combinations(by_arm, 2)]
    return {"ms_per_token": speeds, "arms": arms, "pairs": pairs, "reduction": _reduction(by_arm)}


def _arm(
    runs: list[RunMeasures],
    tree: Tree,
    speeds: Mapping[str, float],
    config: ExperimentConfig,
    gpus: int | None,
    failed: int,
) -> dict[str, Any]:
    timed = _at_full_load(runs)
    bounds = [bound_of(run, tree, speeds, config.layer) for run in timed]
    known = [bound for bound in bounds if bound is not None]
    latency = [run.seconds for run in timed]
    scores = [run.line.score for run in runs if run.line.score is not None]
    mean_latency = _mean(latency)
    calls = Counter(agent.model for run in runs for agent in run.record.agents if agent.start is not None)
    sent = calls.total()
    return {
        "arm": tree.arm,
        "questions": len(runs),
        "timed": sum(run.in_full_batch for run in runs),
        "failed": failed,
        "latency_s": latency_summary(latency, _batches(timed)),
        "bound_s": _mean(known) if len(known) == len(timed) else None,
        "accuracy": mean_summary(scores),
        "tokens": {
            "prompt": _mean([run.record.usage.prompt_tokens for run in runs]),
            "completion": _mean([run.record.usage.completion_tokens for run in runs]),
            "cached": _mean([sum(agent.cached_tokens for agent in run.record.agents) for run in runs]),
            "speculated": _mean([sum(agent.speculation.speculated for agent in run.record.agents) for run in runs]),
            "aborted": _mean([run.aborted_tokens for run in runs]),
        },
        "critical_path_s": {part: _mean([run.parts[part] for run in timed]) for part in PARTS},
        "split_by_servers": all(
            agent.server_seconds.prefill is not None
            for run in runs
            for agent in run.record.agents
            if agent.state == "done"
        ),
        "waiting_for_upstream_s": _mean([run.waiting for run in timed]),
        "calls": {model: count / sent for model, count in sorted(calls.items())} if sent else {},
        "exits": _exits(runs),
        "judge": {
            "seconds": _mean([run.judged for run in timed]),
            "share_of_latency": _mean([run.parts["judge"] for run in timed]) / mean_latency if mean_latency else 0.0,
        },
        "gpu_seconds": None if gpus is None else gpus * _seconds_of_batches(timed) / len(timed),
        "lengths_missed": sum(run.short for run in runs),
    }


def _at_full_load(runs: Sequence[RunMeasures]) -> list[RunMeasures]:
    """The runs of full batches, or all where there are none: what had the machine to itself says nothing of a load."""
    return [run for run in runs if run.in_full_batch] or list(runs)


def _batches(runs: Sequence[RunMeasures]) -> list[int]:
    return [run.batch for run in runs]


def _seconds_of_batches(runs: Sequence[RunMeasures]) -> float:
    """How long the batches of some runs took: each as long as its slowest run, for which the next batch waits."""
    longest: dict[int, float] = {}
    for run in runs:
        longest[run.batch] = max(longest.get(run.batch, 0.0), run.seconds)
    return sum(longest.values())


def _exits(runs: Sequence[RunMeasures]) -> dict[str, dict[str, float]]:
    """By cluster: decisions, exits among them, the share of runs in which it exited, and the mean Q."""
    told: dict[str, dict[str, float]] = {}
    for cluster in dict.fromkeys(each.cluster for run in runs for each in run.record.decisions):
        decisions = [each for run in runs for each in run.record.decisions if each.cluster == cluster]
        exits = sum(decision.exit for decision in decisions)
        told[cluster] = {"decisions": len(decisions), "exits": exits, "share": exits / len(runs)}
        measured = [decision.Q for decision in decisions if decision.Q is not None]
        if measured:
            told[cluster]["mean_q"] = _mean(measured)
    return told


def _pair(name: str, against: str, by_arm: Mapping[str, list[RunMeasures]]) -> dict[str, Any]:
    """What sets two arms apart, on the questions that both have answered."""
    theirs = {run.line.question: run for run in by_arm[against]}
    both = [(run, theirs[run.line.question]) for run in by_arm[name] if run.line.question in theirs]
    timed = [pair for pair in both if all(run.in_full_batch for run in pair)] or both
    batches = [own.batch for own, _ in timed]
    seconds = [own.seconds for own, _ in timed], [other.seconds for _, other in timed]
    scores = [(own.line.score, other.line.score) for own, other in both]
    scored = [(own, other) for own, other in scores if own is not None and other is not None]
    return {
        "arm": name,
        "against": against,
        "questions": len(both),
        "timed": len(timed),
        "latency_s": paired_difference(*seconds, batches),
        "latency_ratio": ratio_interval(*seconds, batches),
        "accuracy": paired_difference([own for own, _ in scored], [other for _, other in scored]),
    }


def _reduction(by_arm: Mapping[str, list[RunMeasures]]) -> dict[str, Any] | None:
    """What tree, splice and exit each take off the mean latency of dense; on the questions that all four have."""
    names = ("dense", "tree", "splice", "exit")
    if any(name not in by_arm for name in names):
        return None
    latencies = {name: {run.line.question: run.seconds for run in _at_full_load(by_arm[name])} for name in names}
    common = set.intersection(*(set(found) for found in latencies.values()))
    if not common:
        return None
    mean = {name: _mean([found[question] for question in sorted(common)]) for name, found in latencies.items()}
    shares = {arm: (mean[before] - mean[arm]) / mean["dense"] for arm, before in STEPS}
    return {"questions": len(common), "total": (mean["dense"] - mean["exit"]) / mean["dense"], **shares}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
