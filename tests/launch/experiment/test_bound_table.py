"""What early exit could save at best."""

import pytest

from launch.experiment.bound_table import MODELS, main, mean_bound
from launch.experiment.lengths import LengthTrace
from router.moa.tree import Tree
from router.moa.tree_files import read_trees

SPEEDS = dict(zip(MODELS, (1000.0, 1000.0, 2000.0), strict=True))  # ms a token


def tree(arm: str) -> Tree:
    leaves = [{"name": f"p{k}", "model": model} for k, model in enumerate(("smallest", "rank:2", "largest"))]
    layers = [
        {"clusters": [{"name": "leaves", "agents": leaves}]},
        {"clusters": [{"name": "end", "agents": [{"name": "final", "model": "largest", "reads": ["leaves"]}]}]},
    ]
    told = {"sizes": {"4b": 4, "8b": 8, "32b": 32}}
    return read_trees({**told, "trees": [{"name": "t", "arm": arm, "layers": layers}]}, "the test").trees[0]


def test_exits_end_a_cluster_after_two_of_three() -> None:
    trace = LengthTrace([{"first": [1, 5, 10], "middle": [1], "final": [2]}])
    # Leaves take 1, 5 and 20 s, the final agent 4 s.
    assert mean_bound(tree("tree"), trace, SPEEDS) == 24.0
    assert mean_bound(tree("exit"), trace, SPEEDS) == 9.0
    assert mean_bound(tree("exit"), trace, SPEEDS, rate=0.0) == 24.0
    many = LengthTrace(trace.questions * 400)
    assert mean_bound(tree("exit"), many, SPEEDS, rate=0.5) == pytest.approx(16.5, abs=1.5)


def test_the_command_prints_both_traces(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--ms-per-token", "5.5", "6.5", "19"]) == 0
    lines = capsys.readouterr().out.splitlines()
    chat, reasoning = (next(line.split() for line in lines if name in line) for name in ("chat", "reasoning"))
    assert chat[1] == "0.7"
    assert reasoning[1] == "1.2"
    for row in (chat, reasoning):
        shares = [float(share) for share in row[2:]]
        assert shares[0] > shares[2] > shares[3] > shares[4] > shares[5] > 0
