"""Rows of HumanEval+: task_id, prompt, entry_point, canonical_solution, and test as on the hub.

The release on GitHub, which evalplus downloads, has base_input, plus_input and atol instead of the test.
"""

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.data import Hub, Row, Source
from launch.experiment.benchmarks.humaneval_plus.release_form import has_inputs, with_test
from launch.experiment.benchmarks.reading.code import code_question

SOURCE = Source(
    title="HumanEval+",
    files=(
        "HumanEvalPlus*.jsonl*",
        "humanevalplus*.jsonl*",
        "humaneval_plus*.jsonl*",
        "humanevalplus*.parquet",
        "test*.parquet",
    ),
    published="HumanEvalPlus.jsonl.gz, rows of task_id, prompt, entry_point, canonical_solution and test or plus_input",
    hub=Hub("evalplus/humanevalplus"),
)


def question(row: Row) -> Question:
    """A row as a question."""
    return code_question(with_test(row) if has_inputs(row) else row)
