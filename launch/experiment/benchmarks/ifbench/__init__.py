"""IFBench: 300 requests with instructions on the form of the answer, each checked by a verifier."""

from launch.experiment.benchmarks.benchmark import Benchmark
from launch.experiment.benchmarks.ifbench.loader import SOURCE, question
from launch.experiment.benchmarks.ifbench.scorer import find_response, follows

BENCHMARK = Benchmark(
    "ifbench", "IFBench", SOURCE, question, find_response, follows,
    metric="prompt-level loose accuracy", packages=("if_verifiable",),
)  # fmt: skip
