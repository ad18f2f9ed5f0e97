"""Runs of one arm: what is asked of the router, and the log's line of its answer."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec import to_builtins

from launch.errors import ConfigError
from launch.experiment.config import ArmConfig
from launch.experiment.given_exits import Cell, ExitsOfQuestion
from launch.experiment.lengths import LengthTrace, sampling_for
from launch.experiment.questions import Benchmark
from launch.experiment.run_line import RunLine
from router.errors import RouterError
from router.moa.tree import Tree

WARM_UP_TOKENS = 32
_LONG = ("text", "reasoning", "output_ids")  # of an agent: the log would grow by megabytes a run


@dataclass(frozen=True)
class ArmRuns:
    """An arm on any question.

    Attributes:
        name: Its name.
        config: As configured.
        tree: Its tree.
        lengths: How long its agents answer; None lets the models decide.
        exits: Gives the exits that are decided beforehand; None where the run decides.
        seed: Of the experiment.
        keep_texts: Whether lines have what each agent said.
    """

    name: str
    config: ArmConfig
    tree: Tree
    lengths: LengthTrace | None
    exits: ExitsOfQuestion | None
    seed: int
    keep_texts: bool = False
    _agents: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_agents", [agent.name for _, _, agent in self.tree.agents()])

    def asked_lengths(self, index: int) -> dict[str, int]:
        """Tokens of each agent for a question; empty where the models decide."""
        return {} if self.lengths is None else self.lengths.lengths(index, self.tree, self.config.answers)

    def body(self, question: Any, index: int, cell: Cell) -> dict[str, Any]:
        """The request for a question of a cell; the seed of its draws is the same in all arms."""
        moa: dict[str, Any] = {"arm": self.config.arm, "order": self.config.order}
        moa["seed"] = zlib.crc32(f"{self.seed}:{question.id}".encode())
        if self.exits is not None:
            exits = self.exits(self.tree, index, question.id, cell)
            moa["exit"] = {"rule": "replay", "exits": exits}
        elif self.tree.arm == "exit":
            moa["exit"] = to_builtins(self.tree.exit)  # the router's tree of this name may be another arm's
        if lengths := self.asked_lengths(index):
            moa["sampling"] = sampling_for(lengths)
        body: dict[str, Any] = {"model": self.tree.name, "moa": moa}
        if self.config.answers > 1:
            body["n"] = self.config.answers
        ids = getattr(question, "input_ids", ())
        return {**body, "input_ids": list(ids)} if ids else {**body, "messages": list(question.messages)}

    def warm_up_body(self, question: Any, index: int) -> dict[str, Any]:
        """The request for a question that does not count: no agent answers more than a few tokens."""
        names = [*self._agents, *(f"{self._agents[-1]}#{k}" for k in range(2, self.config.answers + 1))]
        body = self.body(question, index, ("", 0))
        body["moa"]["sampling"] = {name: {"max_tokens": WARM_UP_TOKENS} for name in names}
        return body

    def fill(self, line: RunLine, response: Mapping[str, Any], benchmark: Benchmark, question: Any) -> None:
        """Read the router's response into a line; of several answers the first of the most frequent counts.

        Raises:
            RouterError: The response is not that of a run, or of one that lost an agent.
            ConfigError: The router's tree of this name is another one.
            LaunchError: The benchmark cannot score it.
        """
        run = response.get("moa")
        if not isinstance(run, dict) or not isinstance(run.get("agents"), list):
            raise RouterError("the router's answer has no trace of a run.")
        names = [agent["agent"] for agent in run["agents"] if "#" not in agent["agent"]]
        lost = next((agent["agent"] for agent in run["agents"] if agent.get("state") == "failed"), None)
        if lost is not None:
            raise RouterError(f"agent {lost} failed, and the run went on without it.")
        if names != self._agents:
            raise ConfigError(
                f"the router's tree {self.tree.name!r} has other agents; start it with this experiment's trees file."
            )
        line.run = shortened_trace(run, keep_texts=self.keep_texts)
        line.texts = [choice["message"].get("content") or "" for choice in response["choices"]]
        found = [benchmark.extract(text) for text in line.texts]
        line.answers = found
        line.chosen = most_frequent(found, partial(benchmark.same, question))
        score = benchmark.score(question, line.texts[line.chosen])
        line.score = None if score is None else float(score)


def most_frequent(answers: Sequence[str | None], same: Callable[[str, str], bool]) -> int:
    """The index of the first answer that most others are the same as; one that was not found counts for nothing."""
    votes: dict[int, int] = {}  # by the index of the first of each kind, in this order
    for index, answer in enumerate(answers):
        if answer is not None:
            first = next((each for each in votes if same(str(answers[each]), answer)), index)
            votes[first] = votes.get(first, 0) + 1
    return max(votes, key=votes.__getitem__, default=0)  # of equal counts the first that was met


def shortened_trace(run: Mapping[str, Any], *, keep_texts: bool) -> dict[str, Any]:
    """A trace without what agents said, unless it is kept, the matrices of decisions, and what is empty."""
    left_out = _LONG[1:] if keep_texts else _LONG
    agents = [
        {key: value for key, value in agent.items() if key not in left_out and value not in (None, "", [], {})}
        for agent in run["agents"]
    ]
    decisions = [
        {key: value for key, value in each.items() if key not in ("S", "extracted")} for each in run["decisions"]
    ]
    return {**run, "question": "", "agents": agents, "decisions": decisions}
