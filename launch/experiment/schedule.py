"""The order of runs: arms take turns on each batch of questions, so that what drifts hits all of them alike."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """Runs that begin together: a batch of questions, through one arm.

    Attributes:
        questions: Places in the benchmark.
    """

    benchmark: str
    concurrency: int
    arm: str
    questions: tuple[int, ...]


def blocks(
    benchmarks: Mapping[str, int], samples: Mapping[int, int | None], arms: Sequence[str], seed: int
) -> Iterator[Block]:
    """All runs of an experiment.

    A batch has as many questions as the concurrency. All of it is run through each arm before the next batch begins.
    The arms' order is drawn once and begins one arm later in each batch, so that each arm is as often the first, which
    finds nothing of a question in a cache. An arm that another one takes its rate from may so come after it: then the
    rate is that of the batches before.

    Args:
        benchmarks: By name the number of questions.
        samples: By number of questions at once how many of a benchmark are asked, the first ones; None for all.
        arms: Names of all arms.
        seed: Of the order.
    """
    for name, available in benchmarks.items():
        for concurrency, limit in samples.items():
            count = available if limit is None else min(limit, available)
            order = list(arms)
            random.Random(f"{seed}:{name}:{concurrency}").shuffle(order)
            for start in range(0, count, concurrency):
                batch = tuple(range(start, min(count, start + concurrency)))
                first = start // concurrency % len(order)
                for arm in order[first:] + order[:first]:
                    yield Block(name, concurrency, arm, batch)
