"""Rows of MMLU: question, subject (or type), choices, answer (its index or letter); or CSV without headings.

The CSV files are one for each subject, "anatomy_test.csv", with the columns question, A, B, C, D and the letter.
"""

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.data import Hub, Row, Source
from launch.experiment.benchmarks.reading.choices import LETTERS, choice_prompt

SOURCE = Source(
    title="MMLU",
    files=("mmlu.jsonl*", "mmlu_*.jsonl*", "mmlu*.parquet", "*_test.csv", "test/*_test.csv", "test*.parquet"),
    published="MMLU's test split, rows of question, subject, choices and answer",
    hub=Hub("cais/mmlu", ("all",)),
    csv_columns=("question", "A", "B", "C", "D", "answer"),
)


def question(row: Row) -> Question:
    """A row as a question."""
    options = _options(row)
    gold = _letter(row, len(options))
    task = str(row.get("subject", "type") or row.file.removesuffix("_test"))
    name = f"{row.file}/{row.number}" if row.file.endswith("_test") else ""
    detail = {"options": options}
    return Question(name, choice_prompt(row.text("question"), options), gold, task, rf"\boxed{{{gold}}}", detail)


def _options(row: Row) -> list[str]:
    options = row.get("choices")
    if options is None:
        options = [row.get(each) for each in "ABCD"]
    if not isinstance(options, list | tuple) or not 2 <= len(options) <= len(LETTERS) or None in options:
        row.fail('has no list of 2 to 10 options under "choices"')
    return [str(each).strip() for each in options]


def _letter(row: Row, count: int) -> str:
    answer = row.get("answer")
    if isinstance(answer, str):
        answer = LETTERS.find(answer.strip().upper()) if len(answer.strip()) == 1 else -1
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < count:
        row.fail('has neither an option\'s index nor its letter under "answer"')
    return LETTERS[answer]
