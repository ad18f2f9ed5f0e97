"""MATH-500: 500 problems of mathematics competitions, answered by an expression."""

from launch.experiment.benchmarks.benchmark import Benchmark
from launch.experiment.benchmarks.math500.loader import SOURCE, question
from launch.experiment.benchmarks.reading.mathematics import (
    PACKAGES,
    are_equal,
    find_mathematics,
    is_right_mathematics,
)

BENCHMARK = Benchmark(
    "math500",
    "MATH-500",
    SOURCE,
    question,
    find_mathematics,
    is_right_mathematics,
    are_equal,
    packages=PACKAGES,
)
