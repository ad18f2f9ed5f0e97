"""The trees file of a launch: roles by size, and the sizes of its models."""

from pathlib import Path

import pytest

from launch.config.loading import load_config
from launch.config.schema import LaunchConfig, ModelConfig
from launch.errors import ConfigError
from launch.moa.trees_file import model_sizes, trees_json
from router.moa.model_roles import assign_roles
from router.moa.tree_files import read_trees


def models_of(config: LaunchConfig) -> dict[str, str | None]:
    told = read_trees(trees_json(config, "gpu"), "told")
    tree = assign_roles(told.trees[0], [model.name for model in config.models], told.sizes)
    return {agent.name: agent.model for _, _, agent in tree.agents()}


def test_the_final_agent_is_the_largest_model_and_the_aggregators_the_middle_one() -> None:
    models = models_of(load_config(Path("h200-dummy"), device="gpu"))
    assert models["final"] == "qwen3-14b"
    assert {models[f"aggregator-{k}"] for k in (1, 2, 3)} == {"qwen3-8b"}
    assert [models[f"proposer-1{k}"] for k in (1, 2, 3)] == ["qwen3-4b", "qwen3-8b", "qwen3-14b"]


def test_models_of_one_size_are_all_used_and_the_first_is_the_final_agents() -> None:
    models = models_of(load_config(None, device="cpu"))
    assert models["final"] == "smollm2-a"
    assert set(models.values()) == {"smollm2-a", "smollm2-b", "smollm2-c"}


def test_sizes_are_numbers_of_parameters() -> None:
    sizes = model_sizes(load_config(Path("h200-dummy"), device="gpu"))
    assert sizes["qwen3-8b"] == pytest.approx(8.2e9, rel=0.01)


def test_a_model_that_is_not_served_is_refused_and_a_role_is_none() -> None:
    def config(model: str) -> LaunchConfig:
        final = {"clusters": [{"name": "end", "agents": [{"name": "final", "model": model}]}]}
        models = [ModelConfig(name="m", shape="qwen3-4b")]
        return LaunchConfig(models=models, context_length=1024, tree={"layers": [final]})

    assert trees_json(config("rank:3"), "gpu")["trees"]
    with pytest.raises(ConfigError, match="'other', which is not served"):
        trees_json(config("other"), "gpu")
