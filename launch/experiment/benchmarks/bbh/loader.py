"""Rows of BBH: input, target; one JSON file a task, with its rows under "examples"."""

import re

from launch.experiment.benchmarks.bbh.prompt import prompt
from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.data import Hub, Row, Source

TASKS = (
    "boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa", "dyck_languages",
    "formal_fallacies", "geometric_shapes", "hyperbaton", "logical_deduction_five_objects",
    "logical_deduction_seven_objects", "logical_deduction_three_objects", "movie_recommendation",
    "multistep_arithmetic_two", "navigate", "object_counting", "penguins_in_a_table",
    "reasoning_about_colored_objects", "ruin_names", "salient_translation_error_detection", "snarks",
    "sports_understanding", "temporal_sequences", "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects", "web_of_lies", "word_sorting",
)  # fmt: skip

SOURCE = Source(
    title="BIG-Bench Hard",
    files=("bbh/*.json", "bbh/*.jsonl", "bbh*.jsonl*", "bbh*.parquet", "*.json"),
    published="BBH's folder of JSON files, one a task, with input and target under examples",
    hub=Hub("lukaemon/bbh", TASKS),
)
_OPTION = re.compile(r"^\(([A-Z])\) (.*)$", re.MULTILINE)


def question(row: Row) -> Question:
    """A row as a question; a file of several tasks names them under "task"."""
    task = str(row.get("task") or row.file)
    text, gold = row.text("input"), row.text("target")
    options = {letter: words.strip() for letter, words in _OPTION.findall(text)}
    return Question(
        f"{task}/{row.number}", prompt(task, text), gold, task, f"The answer is: {gold}", {"options": options}
    )
