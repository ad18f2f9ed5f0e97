"""GPQA Diamond: 198 questions of science that only experts answer, with four options."""

from launch.experiment.benchmarks.benchmark import Benchmark
from launch.experiment.benchmarks.gpqa_diamond.loader import SOURCE, question
from launch.experiment.benchmarks.reading.choices import find_choice, is_right_choice, same_option

BENCHMARK = Benchmark("gpqa_diamond", "GPQA Diamond", SOURCE, question, find_choice, is_right_choice, same_option)
