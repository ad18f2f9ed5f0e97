"""Rows of GPQA Diamond: Question, Correct Answer, Incorrect Answer 1 to 3, Subdomain, Record ID.

Its authors ask that its questions are not shown in the open: keep prompts and references of it out of what you publish.
"""

from hashlib import sha256

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.data import Hub, Row, Source
from launch.experiment.benchmarks.reading.choices import LETTERS, choice_prompt

SOURCE = Source(
    title="GPQA Diamond",
    files=("gpqa_diamond.csv*", "gpqa_diamond*.jsonl*", "gpqa_diamond*.parquet"),
    published="GPQA's gpqa_diamond.csv, with Question, Correct Answer and Incorrect Answer 1 to 3",
    hub=Hub("Idavidrein/gpqa", ("gpqa_diamond",), "train"),
)
_WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def question(row: Row) -> Question:
    """A row as a question; the order of its options is the question's own, the same in every experiment."""
    text = row.text("Question")
    right = row.text("Correct Answer")
    wrong = [row.text(each) for each in _WRONG]
    options = sorted([right, *wrong], key=lambda each: sha256(f"{text}\n{each}".encode()).digest())
    gold = LETTERS[options.index(right)]
    task = str(row.get("Subdomain", "High-level domain") or "")
    detail = {"options": options}
    refusal = "A question of GPQA Diamond has its right answer among the wrong ones." if right in wrong else ""
    return Question(
        str(row.get("Record ID") or ""), choice_prompt(text, options), gold, task, rf"\boxed{{{gold}}}", detail, refusal
    )
