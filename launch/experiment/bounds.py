"""The bound of an arm: what a run would take with the same lengths and speeds, without any queue or prefill.

Each agent begins when what it reads is complete and decodes at its model's speed, as if it had the machine for itself.
In a cluster that may exit early the second answer ends it, always: two of three.
"""

import math
from collections.abc import Collection, Mapping

from router.moa.tree import Agent, Tree

EXIT_AFTER = 2  # answers


def exiting_clusters(tree: Tree) -> frozenset[str]:
    """The clusters of a tree that may exit early: where its arm is `exit`, those of more than two agents."""
    clusters = [cluster for layer in tree.layers for cluster in layer.clusters]
    return frozenset(each.name for each in clusters if tree.arm == "exit" and len(each.agents) > EXIT_AFTER)


def bound_seconds(
    tree: Tree,
    lengths: Mapping[str, float],
    models: Mapping[str, str],
    ms_per_token: Mapping[str, float],
    exits: Collection[str] | None = None,
) -> float | None:
    """The bound of one run.

    Args:
        tree: The tree; its arm `dense` reads whole layers.
        lengths: Tokens by agent, infinite for an agent that was not waited for; `final#2` is a second final answer.
        models: Model by agent.
        ms_per_token: Speed by model.
        exits: The clusters that exit; None for all that may.

    Returns:
        Seconds; None where a length or a speed that it needs is unknown.
    """
    tree = tree.dense() if tree.arm == "dense" else tree
    exiting = exiting_clusters(tree) if exits is None else exits
    ends: dict[str, list[float]] = {}  # by cluster

    def end(agent: Agent, name: str) -> float:
        ready = max((_cluster_end(ends[cluster], cluster in exiting) for cluster in agent.reads), default=0.0)
        speed = ms_per_token.get(models.get(agent.name, ""))
        return ready + (math.inf if speed is None else lengths.get(name, math.inf) * speed / 1000)

    for _, cluster, agent in tree.agents():
        names = [agent.name, *(name for name in lengths if name.startswith(f"{agent.name}#"))]
        ends.setdefault(cluster.name, []).append(max(end(agent, name) for name in names))
    last = ends[tree.layers[-1].clusters[0].name][0]
    return last if math.isfinite(last) else None


def _cluster_end(ends: list[float], exits: bool) -> float:
    return sorted(ends)[min(EXIT_AFTER, len(ends)) - 1] if exits else max(ends)
