"""What early exit could save at best, by the trace of lengths and the rate of exits; runs nothing.

    python -m launch.experiment.bound_table --ms-per-token 7.2 5.3 18.8

Speeds are those of the smallest, the middle and the largest model. Each figure is the mean bound (see `bounds.py`) of a
shipped configuration's arm over all questions of its trace, as a share of dense's.
"""

import argparse
import random
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from launch.experiment.bounds import bound_seconds, exiting_clusters
from launch.experiment.config import load_experiment
from launch.experiment.lengths import SHIPPED, LengthTrace, load_lengths
from launch.experiment.trees import trees_of
from router.moa.model_roles import assign_roles
from router.moa.tree import Tree

RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
MODELS = ("smallest", "middle", "largest")


def mean_bound(
    tree: Tree, trace: LengthTrace, ms_per_token: Mapping[str, float], rate: float = 1.0, *, above: bool = True
) -> float:
    """Seconds of an arm over all questions of a trace; each cluster that may exit does so with probability `rate`.

    Without `above` only clusters of the first layer exit. `ms_per_token` has the speeds of `MODELS`.
    """
    sizes = {name: float(rank) for rank, name in enumerate(MODELS, 1)}
    tree = assign_roles(tree, MODELS, sizes)
    models = {agent.name: str(agent.model) for _, _, agent in tree.agents()}
    leaves = {cluster.name for cluster in tree.layers[0].clusters}
    may_exit = sorted(name for name in exiting_clusters(tree) if above or name in leaves)
    seconds = []
    for index in range(len(trace.questions)):
        draw = random.Random(f"bound:{index}")
        exits = [name for name in may_exit if draw.random() < rate]
        seconds.append(bound_seconds(tree, trace.lengths(index, tree), models, ms_per_token, exits))
    return fmean(each for each in seconds if each is not None)


def table_of(ms_per_token: Mapping[str, float]) -> Table:
    """A row for each shipped trace: the tree, exits in the leaves alone, and exits everywhere at several rates."""
    table = Table("trace", "sigma", "tree", "leaves alone", *(f"exit {rate:.0%}" for rate in RATES[1:]), box=None)
    for name, distribution in SHIPPED.items():
        config, folder = load_experiment(Path(f"figure-4-ii-{name}"))
        trees, trace = trees_of(config), load_lengths(name, folder)
        dense = mean_bound(trees["dense"], trace, ms_per_token)
        shares = [
            mean_bound(trees["tree"], trace, ms_per_token),
            mean_bound(trees["exit"], trace, ms_per_token, above=False),
            *(mean_bound(trees["exit"], trace, ms_per_token, rate) for rate in RATES[1:]),
        ]
        table.add_row(name, f"{distribution.sigma:g}", *(f"{share / dense:.2f}" for share in shares))
    return table


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m launch.experiment.bound_table", description=__doc__)
    parser.add_argument("--ms-per-token", type=float, nargs=3, default=[5.5, 6.5, 19.0], metavar="MS", help="speeds")
    options = parser.parse_args(arguments)
    Console().print(table_of(dict(zip(MODELS, options.ms_per_token, strict=True))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
