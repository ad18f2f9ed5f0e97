"""Answers that are one number: GSM8K, and the tasks of BBH that count."""

import re
from fractions import Fraction

from router.early_exit.answers import find_answer, find_span, plain_characters, plain_math

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<sign>-\s?)?[$€£]?\s?(?P<minus>-)?(?P<value>{_DIGITS})(?:\s?/\s?(?P<under>[0-9]+)(?![0-9.]))?"
)
_MAX_DIGITS = 60  # of a number; a model's text can have a million


def number_in(span: str) -> Fraction | None:
    """The number that an answer's words are: of "16 - 7 = 9 eggs" what follows the last "=", else the first.

    Currency, units, percent signs and thousands separators say nothing; None where there is no number.
    """
    words = plain_math(plain_characters(span)).rpartition("=")
    found = _NUMBER.search(words[2]) or _NUMBER.search(words[0])
    if found is None or len(found["value"]) > _MAX_DIGITS or (found["under"] or "1").strip("0") == "":
        return None
    value = Fraction(found["value"].replace(",", ""))
    if found["under"]:
        value /= int(found["under"][:_MAX_DIGITS])
    return -value if found["sign"] or found["minus"] else value


def find_number(text: str) -> str | None:
    """The number that a text gives, in figures: in its box or statement, else the one that ends it."""
    span = find_span(text)
    if span is None:
        answer = find_answer(text, ("last_number",))
        span = None if answer is None else answer.normal
    value = None if span is None else number_in(span)
    return None if value is None else _figures(value)


def _figures(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else str(value)


def same_number(a: str | None, b: str | None) -> bool:
    """Whether two numbers in figures are equal; None equals nothing."""
    return a is not None and b is not None and Fraction(a) == Fraction(b)
