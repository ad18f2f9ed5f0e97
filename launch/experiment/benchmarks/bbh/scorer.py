"""The score of BBH: the answer in the form of its target, compared without what says nothing."""

import re
from collections.abc import Callable, Mapping

from launch.experiment.benchmarks.bbh.extractor import find_line
from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.reading.numbers import number_in
from router.early_exit.answers import plain_math

_PAIRS = ({"true", "false"}, {"yes", "no"}, {"valid", "invalid"})
_LETTER_TARGET = re.compile(r"\(([A-Z])\)")
_LETTER = re.compile(
    r"\(([A-Z])\)|^(?:option |choice )?([A-Z])(?:[.):]|\s*$|\s+[-\u2013\u2014]|,(?!\s*[A-Z]\b))", re.IGNORECASE
)
_BRACKETS = re.compile(r"[\[\](){}<>\s]+")
_NUMBER = re.compile(r"-?[0-9]+")
_NEGATED = re.compile(r"\b(?:not|isn't|n't|neither|nor|either|or)\b", re.IGNORECASE)
_MARKS = re.compile(r"[^\w&'\s-]")


def is_right(question: Question, text: str) -> bool:
    """Whether a text gives the target."""
    line = find_line(text)
    if line is None:
        return False
    target = question.gold
    if letter := _LETTER_TARGET.fullmatch(target):
        return _letter(line, question.detail["options"]) == letter[1]
    return _comparison(target)(line, target)


def same_line(question: Question, a: str, b: str) -> bool:
    """Whether two answers are the same option, number, word of a pair, words or brackets, whatever is around them."""
    if options := question.detail["options"]:
        chosen = _letter(a, options)
        if chosen is not None:
            return chosen == _letter(b, options)
    words, others = _words(plain_math(a)), _words(plain_math(b))
    if not words:
        return _same_brackets(a, b)
    numbers = number_in(a), number_in(b)
    if None not in numbers and (words[0][-1:].isdigit() or others[0][-1:].isdigit()):
        return numbers[0] == numbers[1]
    of_pairs = [each for pair in _PAIRS for each in pair if _same_word(a, each) and _same_word(b, each)]
    return words == others or bool(of_pairs)


def _comparison(target: str) -> Callable[[str, str], bool]:
    if _BRACKETS.fullmatch(target):
        return _same_brackets
    if _NUMBER.fullmatch(target):
        return _same_integer
    if any(target.casefold() in pair for pair in _PAIRS):
        return _same_word
    return _same_words


def _letter(line: str, options: Mapping[str, str]) -> str | None:
    """The option that a line chooses, by its letter or by its words; None where it names several."""
    line = plain_math(line)
    letters = {(found[1] or found[2]).upper() for found in _LETTER.finditer(line)}
    if letters:
        return letters.pop() if len(letters) == 1 else None
    words = _words(line)
    chosen = [letter for letter, option in options.items() if _words(option) == words]
    return chosen[0] if len(chosen) == 1 else None


def _same_brackets(line: str, target: str) -> bool:
    """Brackets only: a line that has anything else is wrong, but for quotes, commas and a full stop at its end."""
    plain = re.sub(r"\\(?=[{}])", "", line).rstrip(".")
    return re.sub(r"[\s`\"',]", "", plain) == re.sub(r"\s", "", target)


def _same_integer(line: str, target: str) -> bool:
    value = number_in(line)
    return value is not None and value == int(target)


def _same_word(line: str, target: str) -> bool:
    """The one word of its pair that the line has; "not valid" is invalid, and other negations are no answer."""
    line = plain_math(line)
    pair = next(each for each in _PAIRS if target.casefold() in each)
    words = {each for each in re.findall(r"[a-z]+", line.casefold()) if each in pair}
    if words == {"valid"} and re.search(r"\bnot (?:\w+ )?valid\b", line, re.IGNORECASE):
        words = {"invalid"}
    elif "no" not in words and _NEGATED.search(line.split(",")[0]) and "valid" not in pair:
        return False
    return words == {target.casefold()}


def _same_words(line: str, target: str) -> bool:
    return _words(plain_math(line)) == _words(target)


def _words(text: str) -> list[str]:
    """The words of a text, whatever stands between them; numbers before the words of a list do not count."""
    text = re.sub(r"(?<!\S)[0-9]{1,3}[.)]\s", " ", text)
    return _MARKS.sub(" ", text.casefold()).replace("\u2019", "'").split()
