"""Reads the number that ends a text which states no answer otherwise.

What stands around it is prose. So it counts only near the text's end, and only where nothing beside it makes it part of
something else: of a formula, a list of steps, "3 out of 6".
"""

import re

from router.early_exit.answers.answer import Answer, AnswerKind
from router.early_exit.answers.markup import plain_math
from router.early_exit.answers.number_value import NUMBER
from router.early_exit.answers.quantity import quantity
from router.early_exit.answers.reading import read_answer

_MAX_CHAIN = 120  # characters of several numbers in a row
_MAX_REST = 160  # characters after them

_LATIN = r"0-9A-Za-z_\u00c0-\u024f\u0370-\u052f"
_JOINED = r"\s?(?:,|;|:|/|\*|\+|-|\u2013|\u2014|~|\^|\band\b|\bor\b|\bto\b|\bund\b|\bet\b|\bthrough\b)\s?"
_CHAIN = re.compile(rf"(?<![{_LATIN}.^])-?[$€£]?{NUMBER}(?:{_JOINED}(?:and |or )?-?[$€£]?{NUMBER})*")
_AFTER = re.compile(r"(?P<attached>[^\s.,;:!?()\[\]\"]*)(?P<next>(?:[ -]\S{1,20}){0,3})")
_BEFORE = re.compile(
    r"(?P<keeps>(?<!\w)(?:at least|at most|(?:no|not) (?:more|less|fewer) than|(?:a )?(?:minimum|maximum) of|up to"
    r"|(?:more|greater|larger|less|fewer|smaller) than|over|under|above|below|[<>]=?|mindestens|höchstens)\s*)?"
    r"(?P<sign>(?:negative|minus)\s)?$",
    re.IGNORECASE,
)
# Beside a number these make it another one, or none that answers anything.
_UNSURE_BEFORE = re.compile(
    r"(?:\b(?:half|twice|double|triple|thirds?|quarters?|times|fifths?|tenths?|square root|cube root|squared?|cubed?"
    r"|factorial|log|not|between|from|sqrt|sin|cos|tan|plus|minus|step|figure|fig\.|table|page|equation|section"
    r"|chapter|question|part|example|case|number|no\.|version|line|item|note|and|or|und|y|et)|n't"
    r"|(?:[0-9]\S*|\bone)\s(?:\w+\s)?(?:out of|of|in|per|from|by|is to)|[0-9]\S*\s(?:more|less|fewer|greater"
    r"|larger|smaller) than|[-+*/^±_|!#\\(\[{:]|[0-9])"
    r"(?:\s(?:of|the|a))*\s?$",
    re.IGNORECASE,
)
_UNSURE_AFTER = re.compile(
    r"\s?(?:and (?:a|one) (?:half|quarter|third)|squared|cubed|factorial|times|to the|out of|[ap]\.?m\b|bc\b|ad\b|!"
    r"|[.,:][0-9]|[-+*/^±=<>|_}\\]|(?:is|was) (?:not|wrong|incorrect)|isn't)",
    re.IGNORECASE,
)
_LIST_MARKER = re.compile(r"[.):](?:\s|$)")
_GROUP_END = re.compile(r"\s?[)\]]")


def last_number(text: str) -> Answer | None:
    """The number that ends the text, with what stands beside it and changes its value; several in a row are one list.

    None where more than `_MAX_REST` characters follow, or where what stands beside it leaves its meaning open.
    """
    text = plain_math(text).rstrip()
    last = max(_CHAIN.finditer(text), key=re.Match.end, default=None)
    if last is None or len(last[0]) > _MAX_CHAIN or len(text) - last.end() > _MAX_REST:
        return None
    before = text[max(0, last.start() - 40) : last.start()]
    following = text[last.end() : last.end() + 60].split("\n")[0]
    if before[-1:] in ("(", "[") and (end := _GROUP_END.match(following)):
        group = before[-1] + last[0] + end[0]
        return None if re.search(r"[^\s:=]$", before[:-1]) else _mathematics(group)
    line = before.rpartition("\n")[2]
    in_list = not line.strip(" \t*") and _LIST_MARKER.match(following) and following.strip("*. ")
    if in_list or _UNSURE_BEFORE.search(line) or _UNSURE_AFTER.match(following):
        return None
    beside = _BEFORE.search(line)
    modifiers = (beside["keeps"] or "") + (beside["sign"] or "") if beside else ""
    return _with_suffix(modifiers + last[0], following)


def _with_suffix(number: str, following: str) -> Answer | None:
    """The number with the unit or what is counted among the next words; what is attached to it must be of it."""
    after = _AFTER.match(following)
    attached, words = (after["attached"], after["next"].rstrip(".,;:!?)*").split()) if after else ("", [])
    if attached:
        return read_answer(number + attached)
    for count in range(len(words), 0, -1):
        if found := quantity(f"{number} {' '.join(words[:count])}"):
            return found
    return read_answer(number)


def _mathematics(group: str) -> Answer | None:
    answer = read_answer(group)
    return None if answer is None or answer.kind is AnswerKind.TEXT else answer
