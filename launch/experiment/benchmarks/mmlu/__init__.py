"""MMLU: questions of 57 subjects with four options."""

from launch.experiment.benchmarks.benchmark import Benchmark
from launch.experiment.benchmarks.mmlu.loader import SOURCE, question
from launch.experiment.benchmarks.reading.choices import find_choice, is_right_choice, same_option

BENCHMARK = Benchmark("mmlu", "MMLU", SOURCE, question, find_choice, is_right_choice, same_option)
