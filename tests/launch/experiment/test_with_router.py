"""The experiment against the router itself, whose servers are mocks."""

from pathlib import Path
from typing import Any

import orjson

from launch.experiment.config import load_experiment
from launch.experiment.lengths import load_lengths
from launch.experiment.run_log import read_runs
from launch.experiment.trees import trees_file, trees_of
from tests.launch.experiment.support import write_config
from tests.launch.experiment.test_experiment import run
from tests.router.moa.test_tree_runs import OUTPUT_TOKENS, Agents
from tests.router.support.aio import aio
from tests.router.support.serving import serving


def config_with_roles(folder: Path) -> Path:
    """Three arms of a tree by sizes; agents are known by their system prompts."""

    def cluster(name: str, reads: list[str], *agents: str) -> dict[str, Any]:
        told = [{"name": each, "role": each, "model": "largest", "reads": reads} for each in agents]
        return {"clusters": [{"name": name, "agents": told}]}

    tree = {"name": "t", "layers": [cluster("c", [], "p1", "p2", "p3"), cluster("end", ["c"], "final")]}
    arms = {
        "tree": {"tree": tree, "arm": "tree"},
        "exit": {"tree": tree, "arm": "exit", "exits": {"rate": 1.0}},
        "vote": {"tree": tree, "arm": "splice", "answers": 2},
    }
    return write_config(folder, arms=arms, sizes={"fake": 1.0})


@aio
async def test_requests_are_what_the_router_takes_and_its_traces_are_read(tmp_path: Path) -> None:
    config = config_with_roles(tmp_path)
    read, _ = load_experiment(config)
    trees = tmp_path / "router.json"
    _write(trees, trees_file(trees_of(read), {}, read.sizes))
    agents = Agents()
    async with serving(agents.pair, trees=trees) as router:
        summary, told = await run(config, tmp_path / "out", router, "--num-samples", "2")  # type: ignore[arg-type]
    (cell,) = summary["cells"]
    assert {name: arm["questions"] for name, arm in cell["arms"].items()} == {"tree": 2, "exit": 2, "vote": 2}
    lines = read_runs(tmp_path / "out")
    assert {agent["model"] for line in lines for agent in line.run["agents"]} == {"fake"}
    asked = load_lengths("chat", tmp_path).lengths(0, trees_of(read)["tree"])
    sampling = [call.json["sampling_params"] for call in agents.pair.decode.requests if agents.name(call) == "p2"]
    assert {each["max_new_tokens"] for each in sampling} >= {asked["p2"]}
    assert all(each["ignore_eos"] for each in sampling)
    # The mock answers three tokens whatever it is asked for, and that is not passed over.
    assert cell["arms"]["tree"]["tokens"]["completion"] == 4 * OUTPUT_TOKENS
    assert cell["arms"]["tree"]["lengths_missed"] == 8
    assert "not as long as asked for" in told
    (decision, *_) = [each for line in lines if line.arm == "exit" for each in line.run["decisions"]]
    assert (decision["rule"], decision["exit"], len(decision["answers"])) == ("replay", True, 2)
    for line in lines:
        assert line.latency_s >= line.run["seconds"] > 0


def _write(path: Path, told: Any) -> None:
    path.write_bytes(orjson.dumps(told))
