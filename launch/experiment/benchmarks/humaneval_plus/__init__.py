"""HumanEval+: the functions of HumanEval with eighty times as many tests."""

from launch.experiment.benchmarks.benchmark import Benchmark
from launch.experiment.benchmarks.humaneval_plus.loader import SOURCE, question
from launch.experiment.benchmarks.reading.code import find_code, passes, sandbox_is_there

BENCHMARK = Benchmark(
    "humaneval_plus", "HumanEval+", SOURCE, question, find_code, passes, metric="pass@1", prepare=sandbox_is_there
)
