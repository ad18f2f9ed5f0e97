"""The trees of an experiment, as its router must have them."""

from pathlib import Path
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from launch.errors import ConfigError
from launch.experiment.config import ArmConfig, ExperimentConfig
from router.config.structs import InvalidValue, read_struct
from router.errors import BadRequest
from router.moa.tree import Tree
from router.moa.tree_files import load_trees, read_trees, shipped_trees


def trees_of(config: ExperimentConfig) -> dict[str, Tree]:
    """The tree of each arm, by the arm's name; a tree's own name is what the router serves it as.

    Raises:
        ConfigError: A tree is wrong or not shipped.
    """
    return {name: _tree(name, arm) for name, arm in config.arms.items()}


def _tree(name: str, arm: ArmConfig) -> Tree:
    try:
        if isinstance(arm.tree, str):
            if arm.tree not in shipped_trees():
                shipped = ", ".join(shipped_trees())
                raise ConfigError(f"arms.{name}.tree: there is no shipped tree {arm.tree!r}; shipped: {shipped}.")
            tree = replace(load_trees(Path(arm.tree)).trees[0], name=arm.tree)
        else:
            tree = read_struct(Tree, {"name": name, **arm.tree})
        rule = {"rule": "replay"} if arm.exits is not None else arm.exit or to_builtins(tree.exit)
        options = {"name": tree.name, "arm": arm.arm, "order": arm.order, "exit": rule}
        checked = read_struct(Tree, {**to_builtins(tree), **options})
    except InvalidValue as wrong:
        raise ConfigError(f"arms.{name} is wrong at {wrong.path or 'its tree'}: {wrong.reason}.") from None
    return checked


def trees_file(trees: dict[str, Tree], sampling: dict[str, Any], sizes: dict[str, float]) -> dict[str, Any]:
    """The router's trees file; of arms with the same tree it has one, which exits early if any of them does by Q.

    Raises:
        ConfigError: Two different trees have one name, or roles by size are used and no sizes are known.
    """
    by_name: dict[str, Tree] = {}
    for tree in trees.values():
        before = by_name.setdefault(tree.name, tree)
        if before.layers != tree.layers:
            raise ConfigError(f"two arms have different trees called {tree.name!r}; give them different names.")
        if tree.arm == "exit" and tree.exit.needs_judge:
            by_name[tree.name] = tree
    told = {"models": sampling, "sizes": sizes, "trees": [to_builtins(tree) for tree in by_name.values()]}
    try:
        read_trees(told, "the experiment's trees")
    except BadRequest as error:
        raise ConfigError(str(error)) from None
    return told
