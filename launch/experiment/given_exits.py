"""Early exits that are decided before a run: drawn at a rate, or repeated from another experiment's log."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from launch.errors import ConfigError
from launch.experiment.config import GivenExits
from launch.experiment.run_line import RunLine
from launch.experiment.run_log import read_runs
from router.moa.tree import Tree

LEAST = 2  # answers before a cluster may exit, as in `router.early_exit.ExitRule`
UNKNOWN_RATE = 0.5  # until the arm that another one is like has decided anything


def drawn_exits(tree: Tree, rate: Callable[[int], float], seed: str) -> dict[str, int]:
    """By cluster, after how many answers it exits: after each from the second on with its layer's probability."""
    exits = {}
    for number, layer in enumerate(tree.layers):
        for cluster in layer.clusters:
            draw = random.Random(f"{seed}:{cluster.name}")
            for answers in range(LEAST, len(cluster.agents)):
                if draw.random() < rate(number):
                    exits[cluster.name] = answers
                    break
    return exits


def exit_rates(lines: Iterable[RunLine], arm: str) -> dict[int, float]:
    """By layer, the share of an arm's decisions that said exit; a layer that has decided nothing has none."""
    decisions, exits = Counter[int](), Counter[int]()
    for line in lines:
        if line.arm == arm and line.error is None:
            layers = {agent["cluster"]: int(agent.get("layer", 0)) for agent in line.run["agents"]}
            for decision in line.run["decisions"]:
                layer = layers[decision["cluster"]]
                decisions[layer] += 1
                exits[layer] += bool(decision.get("exit"))
    return {layer: exits[layer] / count for layer, count in decisions.items()}


def recorded_exits(path: Path, arm: str) -> list[dict[str, int]]:
    """The exits of each run of an arm in a log, in the order of its questions.

    Raises:
        ConfigError: There is no log, or the arm is not in it.
    """
    folder = path if path.is_dir() else path.parent
    lines = [line for line in read_runs(folder) if line.arm == arm and line.error is None]
    if not lines:
        raise ConfigError(f"{folder} has no runs of an arm {arm!r}, whose exits are to be repeated.")
    lines.sort(key=lambda line: (line.benchmark, line.concurrency, line.index))
    return [_exits_of(line.run.get("decisions", ())) for line in lines]


def _exits_of(decisions: Sequence[dict[str, Any]]) -> dict[str, int]:
    return {each["cluster"]: len(each["answers"]) for each in decisions if each.get("exit")}


def exits_of_arm(
    given: GivenExits, folder: Path, lines: Callable[[], Iterable[RunLine]]
) -> Callable[[Tree, int, str], dict[str, int]]:
    """What gives an arm's exits for a tree, a question's place and a seed; `lines` has the runs so far."""
    recorded = [] if given.runs is None else recorded_exits(folder / given.runs, given.arm)

    def exits(tree: Tree, index: int, seed: str) -> dict[str, int]:
        if recorded:
            return recorded[index % len(recorded)]
        if given.rate is not None:
            fixed = given.rate
            return drawn_exits(tree, lambda _: fixed, seed)
        rates = exit_rates(lines(), str(given.like))
        return drawn_exits(tree, lambda layer: rates.get(layer, UNKNOWN_RATE), seed)

    return exits
