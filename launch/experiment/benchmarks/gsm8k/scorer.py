"""The score of GSM8K: the number is the right one, however it is written."""

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.reading.numbers import find_number, same_number


def is_right(question: Question, text: str) -> bool:
    """Whether a text gives the right number."""
    return same_number(find_number(text), question.gold)
