"""Bounds by hand on small trees, and the figures that the project was begun with."""

import math
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from launch.experiment.bounds import bound_seconds, exiting_clusters
from launch.experiment.lengths import SHIPPED, Distribution, LengthTrace, generate, load_lengths
from router.config.structs import read_struct
from router.moa.model_roles import assign_roles
from router.moa.tree import Tree
from router.moa.tree_files import load_trees
from tests.launch.experiment.support import SPEEDS, TREE

SIZES = {"4b": 4.0, "8b": 8.0, "32b": 32.0}
MS = {"4b": 5.5, "8b": 6.5, "32b": 19.0}
LEAVES = ("proposers-1", "proposers-2", "proposers-3")


def shipped(name: str) -> tuple[Tree, dict[str, str]]:
    """A shipped tree and the models of its agents."""
    tree = assign_roles(load_trees(Path(name)).trees[0], list(SIZES), SIZES)
    return tree, {agent.name: str(agent.model) for _, _, agent in tree.agents()}


def mean_bound(name: str, trace: LengthTrace, exits: tuple[str, ...] = ()) -> float:
    tree, models = shipped(name)
    bounds = [
        bound_seconds(tree, trace.lengths(index, tree), models, MS, exits) for index in range(len(trace.questions))
    ]
    return sum(bound for bound in bounds if bound is not None) / len(bounds)


def small(arm: str) -> tuple[Tree, dict[str, str]]:
    tree = read_struct(Tree, {**TREE, "arm": arm})
    return tree, {agent.name: str(agent.model) for _, _, agent in tree.agents()}


# Milliseconds of the leaves: c1 100, 100, 400; c2 10, 40, 80. Aggregators 20 each, the final agent 40.
LENGTHS: dict[str, float] = {"p10": 100, "p11": 50, "p12": 100, "p20": 10, "p21": 20, "p22": 20}
LENGTHS |= {"a1": 10, "a2": 10, "final": 10}


@pytest.mark.parametrize(
    ("arm", "exits", "seconds"),
    [
        ("tree", None, 0.400 + 0.020 + 0.040),
        ("splice", None, 0.400 + 0.020 + 0.040),
        ("exit", None, 0.100 + 0.020 + 0.040),
        ("exit", ("c2",), 0.400 + 0.020 + 0.040),
        ("dense", None, 0.400 + 0.020 + 0.040),
    ],
)
def test_a_small_tree_by_hand(arm: str, exits: Any, seconds: float) -> None:
    tree, models = small(arm)
    assert bound_seconds(tree, LENGTHS, models, SPEEDS, exits) == pytest.approx(seconds)


def test_dense_waits_for_the_slowest_of_the_layer_where_the_tree_does_not() -> None:
    lengths = {**LENGTHS, "a2": 100}  # 200 ms, read from the fast cluster: 80 + 200 < 400 + 20
    tree, models = small("tree")
    assert bound_seconds(tree, lengths, models, SPEEDS) == pytest.approx(0.400 + 0.020 + 0.040)
    tree, models = small("dense")
    assert bound_seconds(tree, lengths, models, SPEEDS) == pytest.approx(0.400 + 0.200 + 0.040)


def test_only_clusters_of_three_and_more_exit() -> None:
    assert exiting_clusters(small("exit")[0]) == {"c1", "c2"}
    assert exiting_clusters(small("splice")[0]) == frozenset()


def test_several_answers_end_with_the_longest() -> None:
    tree, models = small("tree")
    assert bound_seconds(tree, {**LENGTHS, "final#2": 30}, models, SPEEDS) == pytest.approx(0.400 + 0.020 + 0.120)


def test_what_is_not_known_has_no_bound() -> None:
    tree, models = small("tree")
    assert bound_seconds(tree, {**LENGTHS, "p11": math.inf}, models, SPEEDS) is None
    assert bound_seconds(tree, LENGTHS, models, {"s": 1.0}) is None
    tree, models = small("exit")
    aborted = {**LENGTHS, "p12": math.inf, "p22": math.inf}
    assert bound_seconds(tree, aborted, models, SPEEDS) == pytest.approx(0.100 + 0.020 + 0.040)


@pytest.mark.parametrize(("sigma", "tree", "leaves", "everywhere"), [(0.7, 0.71, 0.46, 0.39), (1.2, 0.67, 0.38, 0.27)])
def test_the_figures_of_the_quick_model(sigma: float, tree: float, leaves: float, everywhere: float) -> None:
    """5.5, 6.5, 19 ms a token: as shares of dense, whose aggregators are of all three sizes and the tree's all 8B."""
    trace = LengthTrace(generate(Distribution(median=400, sigma=sigma, cap=65535, seed=3), questions=600))
    dense = mean_bound("dense-9-9-1", trace)
    assert mean_bound("tree-9-3-1", trace) / dense == pytest.approx(tree, abs=0.03)
    assert mean_bound("tree-9-3-1", trace, LEAVES) / dense == pytest.approx(leaves, abs=0.03)
    assert mean_bound("tree-9-3-1", trace, (*LEAVES, "aggregators")) / dense == pytest.approx(everywhere, abs=0.03)


def test_with_the_same_aggregators_on_both_sides_the_tree_saves_far_less() -> None:
    """Most of the 0.71 is the size of dense's aggregators: with 8B ones there too it is some 0.87."""
    trace = LengthTrace(generate(Distribution(median=400, sigma=0.7, cap=65535, seed=3), questions=600))
    tree, models = shipped("dense-9-9-1")
    models |= {name: "8b" for name in models if name.startswith("aggregator")}
    bounds = [bound_seconds(tree, trace.lengths(index, tree), models, MS) or 0.0 for index in range(600)]
    assert mean_bound("tree-9-3-1", trace) / (sum(bounds) / 600) == pytest.approx(0.87, abs=0.03)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_frozen_traces_show_the_same(name: str) -> None:
    trace = load_lengths(name, Path())
    dense = mean_bound("dense-9-9-1", trace)
    tree = mean_bound("tree-9-3-1", trace) / dense
    everywhere = mean_bound("tree-9-3-1", trace, (*LEAVES, "aggregators")) / dense
    assert 0.6 < tree < 0.75
    assert everywhere < (0.42 if name == "chat" else 0.30)


def test_a_name_of_a_tree_does_not_matter() -> None:
    tree, models = small("tree")
    assert bound_seconds(replace(tree, name="other"), LENGTHS, models, SPEEDS) == pytest.approx(0.46)
