"""Rows of competitions: AIME25, HMMT25."""

import re

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.data import Row
from launch.experiment.benchmarks.reading.mathematics import math_prompt

# Some files end each problem with what their authors asked of a model.
_ASKED = re.compile(
    r"\s*(?:Please |Let's |Let us )?(?:think|reason) step by step[^\n]*\\boxed\{\}[^\n]*$", re.IGNORECASE
)


def competition_question(row: Row) -> Question:
    """A problem without its file's own instructions; answers may be numbers in JSON."""
    answer = row.get("answer", "expected_answer")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float) or not str(answer).strip():
        row.fail('has no answer under "answer"')
    gold = str(answer).strip()
    problem = _ASKED.sub("", row.text("problem", "question"))
    if not problem:
        row.fail("has no problem")
    return Question("", math_prompt(problem), gold, reference=rf"So the answer is \boxed{{{gold}}}.")
