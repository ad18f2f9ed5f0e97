"""Rows of HumanEval+ as on the hub: task_id, prompt, entry_point, canonical_solution, test.

The release on GitHub has inputs without results (base_input, plus_input) instead of tests: those rows are refused.
"""

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.data import Hub, Row, Source
from launch.experiment.benchmarks.reading.code import code_question

SOURCE = Source(
    title="HumanEval+",
    files=("humanevalplus*.jsonl*", "humaneval_plus*.jsonl*", "humanevalplus*.parquet", "test*.parquet"),
    published="HumanEval+ as on the hub, rows of task_id, prompt, entry_point, canonical_solution and test",
    hub=Hub("evalplus/humanevalplus"),
)


def question(row: Row) -> Question:
    """A row as a question."""
    if row.get("test") is None and row.get("plus_input") is not None:
        row.fail("has inputs without the results that are expected, as the release on GitHub")
    return code_question(row)
