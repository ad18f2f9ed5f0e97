"""The contract of answers: what an agent answers, of which kind, and when two answers are surely the same."""

from dataclasses import dataclass
from enum import StrEnum


class AnswerKind(StrEnum):
    """What an answer is; answers of different kinds are never the same."""

    CHOICE = "choice"  # an option's letter
    NUMBER = "number"  # an exact value, with its unit where the unit changes the value
    INTERVAL = "interval"  # a bound ("at least 5") or a pair in brackets, of which the order counts
    LIST = "list"  # several numbers or letters, or a set
    EXPRESSION = "expression"  # mathematics that is more than a number, compared as it is written
    TEXT = "text"  # words


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        kind: What it is.
        normal: A spelling that the same answers share: "1,234.50" and "1234.5" have "1234.5".
        subject: What a number or letter is of, where that is said and leaves the value as it is: "eggs" of "18 eggs",
            "x" of "x = 18"; "" where nothing is said.
    """

    kind: AnswerKind
    normal: str
    subject: str = ""

    def __str__(self) -> str:
        """The normal form, and of what."""
        return f"{self.normal} ({self.subject})" if self.subject else self.normal


def same_answer(a: Answer, b: Answer) -> bool:
    """Whether two answers to one question are surely the same.

    They have the same normal form, and not two different subjects: "18" is the same as "18 eggs" and as "18 ducks",
    which differ from each other. So the relation is no equivalence; `majority` counts with that in mind.
    """
    same_value = (a.kind, a.normal) == (b.kind, b.normal)
    return same_value and (a.subject == b.subject or not a.subject or not b.subject)
