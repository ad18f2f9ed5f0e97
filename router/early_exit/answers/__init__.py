"""What agents answer: `find_answer` finds and reads it, `same_answer` says whether two are surely the same."""

from router.early_exit.answers.answer import Answer, AnswerKind, same_answer
from router.early_exit.answers.extraction import find_answer, find_span
from router.early_exit.answers.markup import plain_characters, plain_math
from router.early_exit.answers.reading import read_answer

__all__ = [
    "Answer",
    "AnswerKind",
    "find_answer",
    "find_span",
    "plain_characters",
    "plain_math",
    "read_answer",
    "same_answer",
]
