"""Rows of MMLU-ProX-Lite: question_id, question, option_0 to option_9 (some empty), answer, answer_index, category.

A language is a configuration on the hub and a file on disk: "hub:li-lab/MMLU-ProX-Lite:de". Without one it is English.
"""

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.data import Hub, Row, Source
from launch.experiment.benchmarks.mmlu_prox_lite.prompt import prompt
from launch.experiment.benchmarks.reading.choices import LETTERS

SOURCE = Source(
    title="MMLU-ProX-Lite",
    files=("mmlu_prox_lite*.jsonl*", "mmlu_prox_lite*.parquet", "test*.jsonl*", "test*.parquet"),
    published="MMLU-ProX-Lite's test split of one language, rows of question, option_0 to option_9 and answer",
    hub=Hub("li-lab/MMLU-ProX-Lite", ("en",)),
)


def question(row: Row) -> Question:
    """A row as a question."""
    options = _options(row)
    gold = _letter(row, len(options))
    number = row.get("question_id")
    name = "" if number is None else str(number)
    text, task, detail = row.text("question"), str(row.get("category") or ""), {"options": options}
    return Question(name, prompt(text, options), gold, task, rf"\boxed{{{gold}}}", detail)


def _options(row: Row) -> list[str]:
    """The options to the last that is not empty; an empty one between two would shift the letters."""
    options = [str(row.get(f"option_{number}") or "").strip() for number in range(len(LETTERS))]
    there = [each for each in options if each]
    if len(there) < 2 or options[: len(there)] != there:
        row.fail('has no options "option_0", "option_1" and so on without a gap')
    return there


def _letter(row: Row, count: int) -> str:
    letter, index = row.get("answer"), row.get("answer_index")
    if isinstance(letter, str) and len(letter.strip()) == 1:
        found = LETTERS.find(letter.strip().upper())
        if 0 <= found < count and index in (None, found):
            return LETTERS[found]
    return row.fail('has no option\'s letter under "answer", or another one under "answer_index"')
