"""The prompt of MMLU-ProX-Lite: what is asked is in English, whatever the question's language."""

from collections.abc import Sequence

from launch.experiment.benchmarks.reading.choices import choice_prompt

ASK = (
    "Think step by step, in the language of the question. Then end with one line that has only the Latin letter of the"
    r" right option in a box, for example \boxed{A}."
)


def prompt(question: str, options: Sequence[str]) -> str:
    """A question with its options."""
    return choice_prompt(question, options, ASK)
