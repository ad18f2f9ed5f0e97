"""Answers by an option's letter: MMLU, GPQA Diamond, MMLU-ProX-Lite."""

import re
from collections.abc import Sequence

from launch.experiment.benchmarks.benchmark import Question
from router.early_exit.answers import (
    AnswerKind,
    find_answer,
    find_span,
    plain_characters,
    plain_math,
    read_answer,
    same_answer,
)

LETTERS = "ABCDEFGHIJ"
EXTRACTORS = ("boxed", "stated", "choice")
_UNDECIDED = re.compile(r"(?<!\w)\(?[A-J]\)?\s*(?:\bor\b|/)\s*(?:option\s)?\(?[A-J]\)?(?!\w)")

ASK = (
    "Think step by step. Then end with one line that has only the letter of the right option in a box,"
    r" for example \boxed{A}."
)


def choice_prompt(question: str, options: Sequence[str], ask: str = ASK) -> str:
    """A question with its options, lettered from A."""
    lines = [f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question.strip(), "", *lines, "", ask])


def find_choice(text: str) -> str | None:
    """The letter that a text chooses, or the words of its answer where they are no letter."""
    answer = find_answer(text, EXTRACTORS)
    if answer is None:
        return None
    said = find_span(text)
    if answer.kind is AnswerKind.LIST or (said is not None and _UNDECIDED.search(said)):
        return None
    return answer.normal if answer.kind is AnswerKind.CHOICE else said


def is_right_choice(question: Question, text: str) -> bool:
    """Whether a text chooses the right option, by its letter or by its words.

    Words count where they are exactly one option's; several letters are no choice.
    """
    chosen = find_choice(text)
    return chosen is not None and letter_of(chosen, question.detail["options"]) == question.gold


def letter_of(chosen: str, options: Sequence[str]) -> str | None:
    """The letter of what was chosen; None where it is no option's letter and not the words of exactly one."""
    if len(chosen) == 1 and chosen in LETTERS:
        return chosen if LETTERS.index(chosen) < len(options) else None
    same = [letter for letter, option in zip(LETTERS, options, strict=False) if same_choice(option, chosen)]
    return same[0] if len(same) == 1 else None


def same_option(question: Question, a: str, b: str) -> bool:
    """Whether two answers choose the same option, by its letter or by its words; or say the same words of none."""
    options = question.detail["options"]
    chosen = letter_of(a, options)
    return chosen == letter_of(b, options) if chosen is not None else same_choice(a, b)


def same_choice(option: str, chosen: str) -> bool:
    """Whether an option's words, or another answer, are what was chosen."""
    if _folded(option) == _folded(chosen):
        return True
    a, b = read_answer(option), read_answer(chosen)
    return a is not None and b is not None and a.kind is not AnswerKind.CHOICE and same_answer(a, b)


def _folded(text: str) -> str:
    return " ".join(plain_math(plain_characters(text)).casefold().split()).strip(" .")
