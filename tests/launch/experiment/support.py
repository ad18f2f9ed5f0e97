"""A fake router over real HTTP, whose runs are what their requests say; and configs of small experiments."""

import asyncio
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from launch.experiment.config import load_experiment
from launch.experiment.trees import trees_of
from tests.router.support.fakes import Call, FakeServer

LEAVES = [
    {"name": f"c{c}", "agents": [{"name": f"p{c}{k}", "model": model} for k, model in enumerate(("s", "m", "l"))]}
    for c in (1, 2)
]
MIDDLE = [{"name": "mid", "agents": [{"name": f"a{c}", "model": "m", "reads": [f"c{c}"]} for c in (1, 2)]}]
FINAL = [{"name": "end", "agents": [{"name": "final", "model": "l", "reads": ["mid"]}]}]
TREE = {"name": "small", "layers": [{"clusters": LEAVES}, {"clusters": MIDDLE}, {"clusters": FINAL}]}
ALONE = {"name": "alone", "layers": [{"clusters": [{"name": "end", "agents": [{"name": "final", "model": "l"}]}]}]}
ARMS: dict[str, Any] = {
    "dense": {"tree": TREE, "arm": "dense"},
    "tree": {"tree": TREE, "arm": "tree"},
    "splice": {"tree": TREE, "arm": "splice"},
    "exit": {"tree": TREE, "arm": "exit", "exits": {"rate": 0.7}},
}
SPEEDS = {"s": 1.0, "m": 2.0, "l": 4.0}  # ms a token


def write_config(folder: Path, name: str = "experiment.yaml", **changes: Any) -> Path:
    """A config file with four arms of a small tree, or with others."""
    path = folder / name
    path.write_text(yaml.safe_dump({"arms": ARMS, "lengths": "chat", **changes}, sort_keys=False))
    return path


class FakeRouter(FakeServer):
    """Serves the trees of a config; a run takes no time, but its trace has the times of its lengths.

    Attributes:
        runs: The bodies of all runs.
        before: Awaited before each answer with the number of the run, from 1.
        at_once: How many runs were there at once, at each run's begin.
    """

    def __init__(self, config: Path) -> None:
        super().__init__(self._handle)
        trees = trees_of(load_experiment(config)[0])
        self.trees = {tree.name: tree for tree in trees.values()}
        self.runs: list[dict[str, Any]] = []
        self.at_once: list[int] = []
        self.before: Callable[[int], Any] = lambda _: asyncio.sleep(0)
        self._running = 0

    async def _handle(self, call: Call) -> None:
        if call.path == "/v1/models":
            await call.answer({"data": [{"id": name} for name in self.trees]})
            return
        self.runs.append(call.json)
        self._running += 1
        self.at_once.append(self._running)
        try:
            status = await self.before(len(self.runs))
        finally:
            self._running -= 1
        if isinstance(status, int):
            await call.answer({"error": {"message": "not now"}}, status)
            return
        await call.answer(self.answer(call.json))

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The response: every other answer is right, depending on question and arm alone."""
        tree = self.trees[body["model"]]
        moa = body["moa"]
        question = body["messages"][-1]["content"]
        a, b = (int(number) for number in question.removeprefix("What is ").removesuffix("?").split(" + "))
        wrong = zlib.crc32(f"{question}{moa['arm']}".encode()) % 2
        texts = [f"It is {a + b + wrong}."] * body.get("n", 1)
        choices = [{"index": index, "message": {"content": text}} for index, text in enumerate(texts)]
        return {"choices": choices, "moa": run_trace(tree, moa, body.get("n", 1))}


def run_trace(tree: Any, moa: Mapping[str, Any], answers: int = 1) -> dict[str, Any]:
    """A trace in which each agent decodes at its model's speed, 10 ms after what it reads is complete."""
    tree = tree.dense() if moa["arm"] == "dense" else tree
    exits = moa.get("exit", {}).get("exits", {})
    agents: list[dict[str, Any]] = []
    decisions = []
    ready: dict[str, float] = {}
    for layer, stage in enumerate(tree.layers):
        for cluster in stage.clusters:
            names = [(agent, agent.name) for agent in cluster.agents]
            if layer == len(tree.layers) - 1:
                names += [(names[0][0], f"{names[0][1]}#{k}") for k in range(2, answers + 1)]
            members = []
            for agent, name in names:
                began = max((ready[read] for read in agent.reads), default=0.0)
                tokens = moa.get("sampling", {}).get(name, {}).get("max_tokens", 10)
                end = began + 0.01 + (tokens - 1) * SPEEDS[agent.model] / 1000
                told = {"agent": name, "cluster": cluster.name, "layer": layer, "model": agent.model}
                told |= {"reads": list(agent.reads), "state": "done", "began": began, "start": began, "end": end}
                members.append(told | {"first_token": began + 0.01, "prompt_tokens": 7, "completion_tokens": tokens})
            agents += members
            by_end = sorted(members, key=lambda each: each["end"])
            waited = by_end[: exits.get(cluster.name, len(by_end))]
            ready[cluster.name] = waited[-1]["end"]
            for late in by_end[len(waited) :]:
                late.update(state="aborted", end=ready[cluster.name], completion_tokens=3)
            if moa["arm"] == "exit" and len(members) > 2:
                named = [each["agent"] for each in by_end[:2]]
                decision = {
                    "cluster": cluster.name,
                    "at": by_end[1]["end"],
                    "exit": cluster.name in exits,
                    "seconds": 0.0,
                }
                decisions.append({**decision, "answers": named, "rule": "replay"})
    return {
        "run": "run-1",
        "tree": tree.name,
        "arm": moa["arm"],
        "seconds": agents[-1]["end"],
        "usage": {"prompt_tokens": 7 * len(agents), "completion_tokens": sum(a["completion_tokens"] for a in agents)},
        "agents": agents,
        "decisions": decisions,
    }
