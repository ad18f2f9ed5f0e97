"""The trees file that the launcher gives to the router."""

from pathlib import Path
from typing import Any, Literal

from msgspec import to_builtins
from msgspec.structs import replace

from launch.config import LaunchConfig
from launch.errors import ConfigError
from router.errors import BadRequest
from router.moa.tree import Agent, Tree
from router.moa.tree_files import DEFAULT_TREE, load_trees, read_trees, shipped_trees

TREE_FILE = "trees.json"
# A 135M model on two cores decodes some 70 tokens a second: short answers keep the demo short.
# Most tokens of a proposer or aggregator, and of the final agent.
TOKENS = {"cpu": (96, 192), "gpu": (512, 1024)}
OPENAI_NAMES = {"max_new_tokens": "max_tokens", "sampling_seed": "seed"}


def trees_json(config: LaunchConfig, device: Literal["cpu", "gpu"]) -> dict[str, Any]:
    """The router's trees file: the configured tree (or the default one) and each model's sampling.

    Raises:
        ConfigError: The tree is wrong, or no tree of that name is shipped.
    """
    sampling = {
        model.name: {OPENAI_NAMES.get(key, key): value for key, value in model.sampling.items()}
        for model in config.models
    }
    try:
        checked = read_trees({"models": sampling, "trees": [_tree(config, device)]}, "the config's tree")
    except BadRequest as error:
        raise ConfigError(str(error)) from None
    wanted = {agent.model for tree in checked.trees for _, _, agent in tree.agents() if agent.model}
    strange = wanted - {model.name for model in config.models}
    if strange:
        names = ", ".join(model.name for model in config.models)
        raise ConfigError(f"the tree asks for the model {sorted(strange)[0]!r}, which is not served; served: {names}.")
    told: dict[str, Any] = _without_none(to_builtins(checked))
    return told


def _tree(config: LaunchConfig, device: Literal["cpu", "gpu"]) -> Any:
    if isinstance(config.tree, dict):
        return {"name": "moa", **config.tree}
    name = DEFAULT_TREE if config.tree in (None, "default") else str(config.tree)
    if name not in shipped_trees():
        shipped = ", ".join(shipped_trees())
        raise ConfigError(f"there is no shipped tree called {name!r}; use one of {shipped}, or write the tree out.")
    return to_builtins(_capped(load_trees(Path(name)).trees[0], *TOKENS[device]))


def _without_none(plain: Any) -> Any:
    """Mappings and lists without keys that have no value."""
    if isinstance(plain, dict):
        return {key: _without_none(each) for key, each in plain.items() if each is not None}
    return [_without_none(each) for each in plain] if isinstance(plain, list | tuple) else plain


def _capped(tree: Tree, most: int, most_final: int) -> Tree:
    """The tree with no agent that may say more."""

    def cap(agent: Agent) -> Agent:
        limit = most_final if agent == tree.final else most
        return replace(agent, max_tokens=min(agent.max_tokens, limit))

    return tree.with_agents(lambda _, agent: cap(agent))
