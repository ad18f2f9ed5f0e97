"""Roles by size in place of a model's name: `largest`, `smallest`, and `rank:N`, of which 1 is the largest.

A rank behind the last model is the smallest one, so that a tree for three models runs on one or two of them too.
"""

import re
from collections.abc import Collection, Mapping

from msgspec.structs import replace

from router.moa.tree import Agent, Tree

_RANK = re.compile(r"rank:([1-9][0-9]{0,3})\Z")


def is_role(model: str | None) -> bool:
    """Whether an agent's `model` is a role, and no name."""
    return model is not None and (model in ("largest", "smallest") or _RANK.match(model) is not None)


def has_roles(tree: Tree) -> bool:
    """Whether an agent of the tree has a role."""
    return any(is_role(agent.model) for _, _, agent in tree.agents())


def by_size(models: Collection[str], sizes: Mapping[str, float]) -> list[str]:
    """Those of the models whose size is known, the largest first; equal ones in the order of `sizes`."""
    return sorted((model for model in sizes if model in models), key=lambda model: -sizes[model])


def assign_roles(tree: Tree, models: Collection[str], sizes: Mapping[str, float]) -> Tree:
    """The tree with names in place of roles; unchanged where it has none, or where none of the models has a size."""
    ranked = by_size(models, sizes)
    if not ranked or not has_roles(tree):
        return tree

    def named(agent: Agent) -> Agent:
        if agent.model is None or not is_role(agent.model):
            return agent
        rank = _RANK.match(agent.model)
        index = {"largest": 0, "smallest": -1}[agent.model] if rank is None else min(int(rank[1]), len(ranked)) - 1
        return replace(agent, model=ranked[index])

    return tree.with_agents(lambda _, agent: named(agent))
