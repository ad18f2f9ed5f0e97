"""Rows of HMMT25: problem (or question), answer; some files have the problem's number as well."""

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.data import Hub, Row, Source
from launch.experiment.benchmarks.reading.competition import competition_question

SOURCE = Source(
    title="HMMT25",
    files=("hmmt25_feb.jsonl*", "hmmt*25*.jsonl*", "hmmt*.parquet"),
    published="HMMT February 2025's jsonl, rows of problem and answer",
    hub=Hub("MathArena/hmmt_feb_2025", split="train"),
)


def question(row: Row) -> Question:
    """A row as a question."""
    return competition_question(row)
