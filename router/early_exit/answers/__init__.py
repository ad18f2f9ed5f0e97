"""What agents answer: `find_answer` finds and reads it, `same_answer` says whether two are surely the same."""

from router.early_exit.answers.answer import Answer, AnswerKind, same_answer
from router.early_exit.answers.extraction import extract_answer, find_answer

__all__ = ["Answer", "AnswerKind", "extract_answer", "find_answer", "same_answer"]
