"""BIG-Bench Hard: 27 tasks of reasoning, answered by a letter, a word, a number, brackets or a list of words."""

from launch.experiment.benchmarks.bbh.extractor import find_line
from launch.experiment.benchmarks.bbh.loader import SOURCE, question
from launch.experiment.benchmarks.bbh.scorer import is_right, same_line
from launch.experiment.benchmarks.benchmark import Benchmark

BENCHMARK = Benchmark("bbh", "BIG-Bench Hard", SOURCE, question, find_line, is_right, same_line)
