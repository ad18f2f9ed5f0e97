"""MATH-500: 500 problems of mathematics competitions, answered by an expression."""

from launch.experiment.benchmarks.benchmark import Benchmark
from launch.experiment.benchmarks.math500.loader import SOURCE, question
from launch.experiment.benchmarks.reading.mathematics import (
    PACKAGES,
    find_mathematics,
    is_right_mathematics,
    same_mathematics,
)

BENCHMARK = Benchmark(
    "math500", "MATH-500", SOURCE, question, find_mathematics, is_right_mathematics, same_mathematics, packages=PACKAGES
)
