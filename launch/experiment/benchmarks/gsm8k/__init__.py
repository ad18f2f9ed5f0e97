"""GSM8K: word problems for children of school age, answered by one number."""

from launch.experiment.benchmarks.benchmark import Benchmark
from launch.experiment.benchmarks.gsm8k.loader import SOURCE, question
from launch.experiment.benchmarks.gsm8k.scorer import is_right
from launch.experiment.benchmarks.reading.numbers import find_number, same_number

BENCHMARK = Benchmark("gsm8k", "GSM8K", SOURCE, question, find_number, is_right, lambda _, a, b: same_number(a, b))
