"""HMMT25: HMMT, February 2025, thirty problems answered by an expression."""

from launch.experiment.benchmarks.benchmark import Benchmark
from launch.experiment.benchmarks.hmmt25.loader import SOURCE, question
from launch.experiment.benchmarks.reading.mathematics import (
    PACKAGES,
    are_equal,
    find_mathematics,
    is_right_mathematics,
)

BENCHMARK = Benchmark(
    "hmmt25", "HMMT25", SOURCE, question, find_mathematics, is_right_mathematics, are_equal, packages=PACKAGES
)
