"""Rows of GSM8K: question, answer (a solution that ends with "#### 18")."""

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.data import Hub, Row, Source
from launch.experiment.benchmarks.gsm8k.prompt import prompt
from launch.experiment.benchmarks.reading.numbers import find_number

SOURCE = Source(
    title="GSM8K",
    files=("gsm8k.jsonl*", "gsm8k*.parquet", "test.jsonl*", "test*.parquet"),
    published="GSM8K's test.jsonl, rows of question and answer",
    hub=Hub("openai/gsm8k", ("main",)),
)


def question(row: Row) -> Question:
    """A row as a question; `RowError` where the solution does not end with a number."""
    solution = row.text("answer")
    _, marked, _ = solution.rpartition("####")
    gold = find_number(solution) if marked else None
    if gold is None:
        row.fail('has no number after "####" under "answer"')
    text = row.text("question")
    return Question("", prompt(text), gold, reference=solution)
