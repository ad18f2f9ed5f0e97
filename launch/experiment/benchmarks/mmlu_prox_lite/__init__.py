"""MMLU-ProX-Lite: questions of MMLU-Pro in many languages, with up to ten options."""

from launch.experiment.benchmarks.benchmark import Benchmark
from launch.experiment.benchmarks.mmlu_prox_lite.loader import SOURCE, question
from launch.experiment.benchmarks.reading.choices import find_choice, is_right_choice, same_option

BENCHMARK = Benchmark("mmlu_prox_lite", "MMLU-ProX-Lite", SOURCE, question, find_choice, is_right_choice, same_option)
