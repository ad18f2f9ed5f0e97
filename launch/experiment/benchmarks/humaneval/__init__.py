"""HumanEval: 164 functions to write in Python, right when their tests pass."""

from launch.experiment.benchmarks.benchmark import Benchmark
from launch.experiment.benchmarks.humaneval.loader import SOURCE, question
from launch.experiment.benchmarks.reading.code import find_code, passes, sandbox_is_there

BENCHMARK = Benchmark(
    "humaneval", "HumanEval", SOURCE, question, find_code, passes, metric="pass@1", prepare=sandbox_is_there
)
