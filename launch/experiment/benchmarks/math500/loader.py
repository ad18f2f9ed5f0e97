"""Rows of MATH-500: problem, solution, answer, subject, level, unique_id."""

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.data import Hub, Row, Source
from launch.experiment.benchmarks.reading.mathematics import math_prompt

SOURCE = Source(
    title="MATH-500",
    files=("math500.jsonl*", "math-500.jsonl*", "math*500*.parquet", "test.jsonl*", "test*.parquet"),
    published="MATH-500's test.jsonl, rows of problem, solution, answer and subject",
    hub=Hub("HuggingFaceH4/MATH-500"),
)


def question(row: Row) -> Question:
    """A row as a question."""
    gold = row.text("answer")
    reference = row.text("solution") if row.get("solution") else rf"\boxed{{{gold}}}"
    name = row.get("unique_id")
    return Question(str(name or ""), math_prompt(row.text("problem")), gold, str(row.get("subject") or ""), reference)
