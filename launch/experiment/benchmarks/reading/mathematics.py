"""Answers that are mathematics: MATH-500, AIME25, HMMT25. math-verify compares them, in a process that may be ended."""

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.workers import MATHEMATICS
from router.early_exit.answers import AnswerKind, find_answer, find_span, read_answer, same_answer

ASK = r"Think step by step, and end with your answer, and nothing else, in \boxed{}."
PACKAGES = ("math_verify",)
# The same answer, and sure: what has a unit or is words may be written in more ways.
_EXACT = (AnswerKind.NUMBER, AnswerKind.EXPRESSION, AnswerKind.INTERVAL, AnswerKind.TEXT, AnswerKind.CHOICE)
_MAX_ANSWER = 2000  # characters


def math_prompt(problem: str) -> str:
    """A problem with what is asked of the answer."""
    return f"{problem.strip()}\n\n{ASK}"


def find_mathematics(text: str) -> str | None:
    """The answer as it is written, in the last box or statement, else the number that ends the text."""
    span = find_span(text)
    if span is not None:
        return _bare(span) or None
    answer = find_answer(text, ("last_number",))
    return None if answer is None else answer.normal


def is_right_mathematics(question: Question, text: str) -> bool:
    """Whether a text gives the right answer; see `same_mathematics`."""
    given = find_mathematics(text)
    return given is not None and same_mathematics(question.gold, given)


def are_equal(_: Question, a: str, b: str) -> bool:
    """Whether two answers are equal."""
    return same_mathematics(a, b)


def same_mathematics(gold: str, given: str) -> bool:
    """Whether an answer is the right one, or another one's equal.

    It is when it is written as the right one but for markup, or when math-verify says that both are equal. Where
    math-verify comes to no end, the answers count as different, as with its own limit of time.
    """
    if len(given) > _MAX_ANSWER or len(gold) > _MAX_ANSWER:
        return False
    right, answer = read_answer(gold), read_answer(given)
    if right is not None and answer is not None and right.kind in _EXACT and same_answer(right, answer):
        return True
    return MATHEMATICS.ask({"gold": gold, "answer": given}) is True


def _bare(span: str) -> str:
    """The words without the marks around them that delimit mathematics or end a sentence."""
    words = span.strip(" \n*_`").rstrip(".,; *_`")
    for opens, closes in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        inner = words[len(opens) : len(words) - len(closes)]
        if words.startswith(opens) and words.endswith(closes) and opens not in inner and inner.strip():
            return inner.strip().rstrip(".,; ")
    return words
