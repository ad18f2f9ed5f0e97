"""The trees file that the launcher gives to the router."""

from pathlib import Path
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from launch.config.schema import LaunchConfig
from launch.errors import ConfigError
from launch.machine.inventory import Device
from launch.models.lookup import shape_of
from router.errors import BadRequest
from router.moa.model_roles import is_role
from router.moa.tree import Agent, Tree
from router.moa.tree_files import load_trees, read_trees, shipped_trees

TREES_FILE = "trees.json"
LAUNCHED_TREE = "tree-9-3-1"
"""Served unless the config has another one: its agents get models by size, the final agent the largest."""
MAX_TOKENS: dict[Device, tuple[int, int]] = {"cpu": (96, 192), "gpu": (512, 1024)}
"""Upper limits of the answers in a shipped tree: of proposers and aggregators, and of the final agent.

A 135M model on two cores decodes some 70 tokens a second, so short answers keep the demo short."""
OPENAI_NAMES = {"max_new_tokens": "max_tokens", "sampling_seed": "seed"}


def trees_json(config: LaunchConfig, device: Device) -> dict[str, Any]:
    """The router's trees file: the configured tree (or the default one) and each model's sampling.

    Raises:
        ConfigError: The tree is wrong, or no tree of that name is shipped.
    """
    sampling = {
        model.name: {OPENAI_NAMES.get(key, key): value for key, value in model.sampling.items()}
        for model in config.models
    }
    try:
        trees_file = read_trees(
            {"models": sampling, "sizes": model_sizes(config), "trees": [_tree(config, device)]}, "the config's tree"
        )
    except BadRequest as error:
        raise ConfigError(str(error)) from None
    models = {agent.model for tree in trees_file.trees for _, _, agent in tree.agents() if agent.model}
    models = {model for model in models if not is_role(model)}
    unserved = models - {model.name for model in config.models}
    if unserved:
        names = ", ".join(model.name for model in config.models)
        raise ConfigError(f"the tree asks for the model {sorted(unserved)[0]!r}, which is not served; served: {names}.")
    plain: dict[str, Any] = _without_none(to_builtins(trees_file))
    return plain


def model_sizes(config: LaunchConfig) -> dict[str, float]:
    """The number of parameters of each model, for roles by size; raises `ConfigError` where one is unknown."""
    return {model.name: float(shape_of(path=model.path, shape=model.shape).params) for model in config.models}


def _tree(config: LaunchConfig, device: Device) -> Any:
    if isinstance(config.tree, dict):
        return {"name": "moa", **config.tree}
    name = LAUNCHED_TREE if config.tree in (None, "default") else str(config.tree)
    if name not in shipped_trees():
        shipped = ", ".join(shipped_trees())
        raise ConfigError(f"there is no shipped tree called {name!r}; use one of {shipped}, or write the tree out.")
    return to_builtins(_limit_answers(load_trees(Path(name)).trees[0], *MAX_TOKENS[device]))


def _without_none(plain: Any) -> Any:
    """Nested mappings and lists without the keys whose value is None."""
    if isinstance(plain, dict):
        return {key: _without_none(value) for key, value in plain.items() if value is not None}
    return [_without_none(each) for each in plain] if isinstance(plain, list | tuple) else plain


def _limit_answers(tree: Tree, max_tokens: int, max_tokens_final: int) -> Tree:
    """The tree with every agent's `max_tokens` limited."""

    def limited(agent: Agent) -> Agent:
        limit = max_tokens_final if agent == tree.final else max_tokens
        return replace(agent, max_tokens=min(agent.max_tokens, limit))

    return tree.with_agents(lambda _, agent: limited(agent))
