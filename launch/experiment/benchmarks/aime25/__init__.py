"""AIME25: AIME 2025, both papers, thirty problems answered by a whole number from 0 to 999."""

from launch.experiment.benchmarks.aime25.loader import SOURCE, question
from launch.experiment.benchmarks.benchmark import Benchmark
from launch.experiment.benchmarks.reading.mathematics import (
    PACKAGES,
    are_equal,
    find_mathematics,
    is_right_mathematics,
)

BENCHMARK = Benchmark(
    "aime25", "AIME25", SOURCE, question, find_mathematics, is_right_mathematics, are_equal, packages=PACKAGES
)
