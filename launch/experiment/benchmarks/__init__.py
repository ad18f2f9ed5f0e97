"""Benchmarks: `benchmark("gsm8k")` loads questions, finds the answer in a model's text and says whether it is right.

for question in benchmark("gsm8k").load("data/gsm8k.jsonl", limit=85, seed=0):
    right = benchmark("gsm8k").score(question, ask(question.messages))
"""

from launch.experiment.benchmarks.benchmark import Benchmark, Question, Reading
from launch.experiment.benchmarks.errors import BenchmarkError, DataError, MissingPackage, SandboxError, Unscorable
from launch.experiment.benchmarks.registry import BENCHMARKS, benchmark

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "BenchmarkError",
    "DataError",
    "MissingPackage",
    "Question",
    "Reading",
    "SandboxError",
    "Unscorable",
    "benchmark",
]
