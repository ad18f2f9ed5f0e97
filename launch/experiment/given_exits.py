"""Early exits that are decided before a run: drawn at a rate, or repeated from another experiment's log."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from launch.errors import ConfigError
from launch.experiment.config import GivenExits
from launch.experiment.run_line import RunLine
from launch.experiment.run_log import read_runs
from router.moa.tree import Tree

Cell = tuple[str, int]  # a benchmark, and how many questions run at once
ExitsOfQuestion = Callable[[Tree, int, str, Cell], dict[str, int]]
"""The exits of a tree for a question: its index, its id, and its cell."""

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


class ExitRates:
    """By cell and layer, the share of an arm's decisions that said exit, in a log that grows."""

    def __init__(self, arm: str) -> None:
        self._arm = arm
        self._read = 0  # lines
        self._decisions, self._exits = Counter[tuple[Cell, int]](), Counter[tuple[Cell, int]]()

    def rate(self, lines: Sequence[RunLine], cell: Cell, layer: int) -> float:
        """The share so far; `UNKNOWN_RATE` where nothing was decided."""
        for line in lines[self._read :]:
            if line.arm == self._arm and line.error is None:
                self._count(line)
        self._read = len(lines)
        decisions = self._decisions[cell, layer]
        return self._exits[cell, layer] / decisions if decisions else UNKNOWN_RATE

    def _count(self, line: RunLine) -> None:
        layers = {agent["cluster"]: int(agent.get("layer", 0)) for agent in line.run["agents"]}
        for decision in line.run["decisions"]:
            key = (line.benchmark, line.concurrency), layers[decision["cluster"]]
            self._decisions[key] += 1
            self._exits[key] += bool(decision.get("exit"))


def recorded_exits(path: Path, arm: str) -> dict[str, dict[str, int]]:
    """The exits of an arm in a log, by question, in their order; of several numbers at once those of the smallest.

    Raises:
        ConfigError: There is no log, or the arm is not in it.
    """
    folder = path if path.is_dir() else path.parent
    lines = [line for line in read_runs(folder) if line.arm == arm and line.error is None]
    if not lines:
        raise ConfigError(f"{folder} has no runs of an arm {arm!r}, whose exits are to be repeated.")
    lines.sort(key=lambda line: (line.benchmark, line.concurrency, line.index))
    recorded: dict[str, dict[str, int]] = {}
    for line in lines:
        recorded.setdefault(line.question, _exits_of(line.run.get("decisions", ())))
    return recorded


def _exits_of(decisions: Sequence[dict[str, Any]]) -> dict[str, int]:
    return {each["cluster"]: len(each["answers"]) for each in decisions if each.get("exit")}


def exits_of_arm(given: GivenExits, folder: Path, seed: str, lines: Callable[[], Sequence[RunLine]]) -> ExitsOfQuestion:
    """What gives an arm's exits; `lines` has the runs so far.

    Of a recorded experiment with other questions those at the same place are taken, again from the first at the end.
    """
    recorded = {} if given.runs is None else recorded_exits(folder / given.runs, given.arm)
    in_order = [*recorded.values()]
    rates = ExitRates(str(given.like))

    def exits(tree: Tree, index: int, question: str, cell: Cell) -> dict[str, int]:
        if recorded:
            return recorded.get(question, in_order[index % len(in_order)])
        fixed = given.rate
        return drawn_exits(
            tree, lambda layer: rates.rate(lines(), cell, layer) if fixed is None else fixed, f"{seed}:{question}"
        )

    return exits
