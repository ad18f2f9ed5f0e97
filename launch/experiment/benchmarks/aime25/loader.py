"""Rows of AIME25: problem (or question), answer; some files have the problem's number as well."""

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.data import Hub, Row, Source
from launch.experiment.benchmarks.reading.competition import competition_question

SOURCE = Source(
    title="AIME25",
    files=("aime25.jsonl*", "aime2025*.jsonl*", "aime*25*.parquet"),
    published="AIME 2025's jsonl, rows of problem and answer",
    hub=Hub("math-ai/aime25", split="test"),
)


def question(row: Row) -> Question:
    """A row as a question."""
    return competition_question(row)
