"""Configs of experiments: the shipped ones, and what is wrong with others in one sentence."""

from pathlib import Path
from typing import Any

import pytest

from launch.config.loading import load_config
from launch.errors import ConfigError
from launch.experiment.arm_runs import ArmRuns
from launch.experiment.config import CONFIGS, load_experiment
from launch.experiment.lengths import load_lengths
from launch.experiment.questions import Question
from launch.experiment.trees import trees_file, trees_of
from router.moa.model_roles import is_role
from tests.launch.experiment.support import ALONE, ARMS, TREE, write_config


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_the_shipped_ones_are_whole(name: str) -> None:
    config, folder = load_experiment(Path(name))
    trees = trees_of(config)
    assert trees_file(trees, {}, {"model": 1.0})["trees"]
    assert config.launch is not None
    served = {model.name for model in load_config(Path(config.launch), device="gpu").models}
    named = {str(agent.model) for tree in trees.values() for _, _, agent in tree.agents()}
    assert {model for model in named if not is_role(model)} <= served
    if config.lengths is not None:
        trace = load_lengths(config.lengths, folder)
        for arm, tree in trees.items():
            assert trace.lengths(0, tree, config.arms[arm].answers)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": {}}, "arms"),
        ({"arm": {}}, "unknown, did you mean arms"),
        ({"arms": {"a": {"tree": TREE, "arm": "tre"}}}, "did you mean tree"),
        ({"arms": {"a": {"tree": TREE, "arm": "tree", "exit": {"rule": "dmv"}}}}, "write arm: exit"),
        ({"arms": {"a/b": {"tree": TREE}}}, "letters, digits"),
        ({"arms": {"a": {"tree": TREE, "arm": "exit", "exits": {"like": "b"}}}}, "no other arm that exits"),
        ({"arms": {"a": {"tree": TREE, "arm": "exit", "exits": {}}}}, "exactly one of"),
        ({"scale": 0}, "more than 0"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(write_config(tmp_path, **changes))
    assert words in str(caught.value)
    assert str(tmp_path / "experiment.yaml") in str(caught.value)


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ({"tree": "tree-8-3-1"}, "no shipped tree"),
        ({"tree": {"layers": []}}, "arms.a is wrong"),
        ({"tree": TREE, "arm": "exit", "exit": {"rule": "q"}}, "arms.a is wrong at exit.rule"),
    ],
)
def test_a_wrong_tree_is_said(tmp_path: Path, arm: dict[str, Any], words: str) -> None:
    config, _ = load_experiment(write_config(tmp_path, arms={"a": arm}))
    with pytest.raises(ConfigError, match=words):
        trees_of(config)


def test_the_routers_file_has_each_tree_once_and_loads_the_judge_where_it_is_needed(tmp_path: Path) -> None:
    arms = {**ARMS, "q": {"tree": TREE, "arm": "exit", "exit": {"rule": "q_draw"}}, "alone": {"tree": ALONE}}
    config, _ = load_experiment(write_config(tmp_path, arms=arms))
    told = trees_file(trees_of(config), {}, {})
    assert [(tree["name"], tree["arm"], tree["exit"]["rule"]) for tree in told["trees"]] == [
        ("small", "exit", "q_draw"),
        ("alone", "splice", "q_draw"),
    ]
    config, _ = load_experiment(write_config(tmp_path))
    (tree,) = trees_file(trees_of(config), {}, {})["trees"]
    assert tree["arm"] == "dense", "exits that are given beforehand need no judge"
    other = {**ALONE, "name": "small"}
    config, _ = load_experiment(write_config(tmp_path, arms={**ARMS, "other": {"tree": other}}))
    with pytest.raises(ConfigError, match="different trees called 'small'"):
        trees_file(trees_of(config), {}, {})


def test_roles_by_size_need_sizes(tmp_path: Path) -> None:
    config, _ = load_experiment(write_config(tmp_path, arms={"a": {"tree": "tree-9-3-1"}}))
    with pytest.raises(ConfigError, match="sizes of models, which are not given"):
        trees_file(trees_of(config), {}, config.sizes)


def test_an_exit_arm_asks_for_its_own_rule_and_for_its_trees_own(tmp_path: Path) -> None:
    """Arms of one tree share its entry in the router's file."""
    inline = {
        "arm": "exit",
        "exit": {"rule": "dmv"},
        "layers": [{"clusters": [{"name": "c", "agents": [{"name": "a"}]}]}],
    }
    arms: dict[str, Any] = {
        "drawn": {"tree": "tree-3x3-3-1", "arm": "exit"},
        "threshold": {"tree": "tree-3x3-3-1", "arm": "exit", "exit": {"rule": "q_threshold", "q_min": 0.9}},
        "inline": {"tree": inline, "arm": "exit"},
    }
    config, _ = load_experiment(write_config(tmp_path, arms=arms))
    rules = {}
    for name, tree in trees_of(config).items():
        runs = ArmRuns(name, config.arms[name], tree, None, None, seed=0)
        rules[name] = runs.body(Question("q", ({"role": "user", "content": "?"},)), 0, ("sums", 1))["moa"]["exit"][
            "rule"
        ]
    assert rules == {"drawn": "q_draw", "threshold": "q_threshold", "inline": "dmv"}
