"""Reads a short text as an `Answer`: finds its kind and the normal form that all spellings of one answer share.

`read_answer` tries the kinds in the order choice, number with unit or bound, interval and list, expression. What is
none of these is text, which equals nothing but the same words.
"""

import re

from router.early_exit.answers.answer import Answer, AnswerKind
from router.early_exit.answers.markup import plain_characters, plain_math
from router.early_exit.answers.quantity import quantity
from router.early_exit.answers.statements import MAX_SHORT

_MAX_READ = 500  # characters; what is longer is text
_MAX_ELEMENTS = 64

_BECAUSE = "because|since|weil|porque|parce que|which is|perché"
# What follows a comma and says why, not what.
_REASON = (
    rf"{_BECAUSE}|as|for|so|which|that is|i\.e\.|e\.g\.|due|namely|given|es decir|ya que|pues|car|donc|c'est|denn|da"
    r"|also|d\.h\.|ou seja|pois|cioè|want|omdat"
)
_LETTER = r"\(?([A-Ja-j])\)?"
_CHOICE = re.compile(
    r"(?:(?:option|choice|answer|letter|选项|選項)\s?)?"
    rf"(?:\(([A-Ja-j])\)(?!\s*[+*/^=<>-])|([A-J])[.):](?=\s|$)(?!\s*[A-Z]\.)|([A-Ja-j])[.):]?$"
    rf"|([A-J])(?=(?:,\s+(?:{_REASON})|\s+(?:{_BECAUSE}|as))\b|\s+[-\u2013\u2014]+\s+[a-z'\"]{{2,}}))",
)
_NAMED_CHOICE = re.compile(rf"(?:option|choice)\s{_LETTER}(?![\w'])", re.IGNORECASE)
_CHOICES = re.compile(rf"(?:both )?{_LETTER}(?:(?:,? and |, ?| ?& ?){_LETTER})+\.?$")
_WHY = re.compile(rf",\s+(?:{_REASON})\b|\s+(?:{_BECAUSE})\b", re.IGNORECASE)
_YES_NO = re.compile(rf"(yes|no|true|false)(?!\. ?[0-9])(?:[.!]?$|[,.;:!]\s|\s+(?:{_BECAUSE})\b)")

_POLITE = re.compile(r"\s*(?:です|である|だ|입니다|이다|个|個)$")
_SEPARATOR = re.compile(r"\s*,\s*(?:and|und|et|y|e)\s+|\s*[,;]\s*|\s+(?:and|und|et|y)\s+|\s*&\s*")
_BRACKETS = re.compile(r"([(\[{\]])(.+)([)\]}\[])", re.DOTALL)
_WIDE_COMMA = re.compile(r",\s")
_FUNCTIONS = (
    "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|sqrt|log|ln|exp|pi|inf|mod|max|min|gcd|lcm|det"
)
_MATHEMATICS = re.compile(rf"(?:{_FUNCTIONS}|\\[a-zA-Z]+|[^\W\d_](?![^\W\d_])|[^a-zA-Z])+")
_SIGN = re.compile(r"[0-9=<>+*/^_|!%°±()\\-]")
_TIGHT = re.compile(r"\s*([^\w\s\\])\s*")
_QUOTED = re.compile(r"(['\"])([^'\"]+)\1[ .]*")
_END = re.compile(r"(?:[ ;:,?.]|(?<![0-9a-z)])!)+$")  # 3! may be a factorial
_EDGES = " \t\n.,;:!?\"'"


def read_answer(text: str, decimal_comma: bool = False) -> Answer | None:
    """The answer that a short text is; None when nothing of it remains, or when it is not short.

    Args:
        text: What stands in a box or after "the answer is".
        decimal_comma: Whether the text's language writes 3.5 as "3,5".
    """
    if len(text) >= MAX_SHORT:
        return None
    whole = " ".join(plain_math(plain_characters(text)).split())
    if len(whole) > _MAX_READ:
        return _text(whole)
    if quoted := _QUOTED.fullmatch(whole):
        whole = quoted[2]
    whole = _POLITE.sub("", _END.sub("", whole).lstrip(" ;:,"))
    for part in (whole, _without_reason(whole)):
        if part and (found := _choice(part) or _exact(part, decimal_comma)):
            return found
    return _text(whole)


def option(letter: str, words: str = "") -> Answer | None:
    """The choice of a letter with the words that follow its full stop; None where it is more likely a name's initial.

    What the letter abbreviates may be a name all the same, so its first words are the subject: "C. elegans" and
    "C. difficile" are not the same.
    """
    first = words.split()[:4]
    if first and (re.match(r"[A-Z]\.", first[0]) or (letter.upper() >= "F" and len(first) < 4)):
        return None
    return Answer(AnswerKind.CHOICE, letter.upper(), " ".join(first[:3]).casefold().strip(_EDGES))


def _exact(text: str, decimal_comma: bool) -> Answer | None:
    return quantity(text, decimal_comma) or _group(text, decimal_comma) or _expression(text)


def _choice(text: str) -> Answer | None:
    if _CHOICES.match(text):
        letters = sorted({letter.upper() for letter in re.findall(r"(?<![\w'])\(?([A-Ja-j])\)?(?![\w'])", text)})
        return Answer(AnswerKind.LIST, ",".join(letters))
    found = _CHOICE.match(text) or _NAMED_CHOICE.match(text)
    if found is None:
        return None
    letter = next(each for each in found.groups() if each)
    return option(letter, text[found.end() :] if found[0].endswith(".") else "")


def _group(text: str, decimal_comma: bool) -> Answer | None:
    """A tuple or an interval in brackets, a set in braces, or several numbers without either."""
    found = _BRACKETS.fullmatch(text)
    inner = found[2] if found else text
    elements = _elements(inner, decimal_comma)
    if elements is None or (len(elements) < 2 and not (found and found[1] == "{")):
        return None
    if found is None:
        return Answer(AnswerKind.LIST, ",".join(elements))
    if found[1] + found[3] == "{}":
        return Answer(AnswerKind.LIST, "{" + ",".join(sorted(set(elements))) + "}")
    return Answer(AnswerKind.INTERVAL, found[1] + ",".join(elements) + found[3])


def _elements(text: str, decimal_comma: bool) -> list[str] | None:
    """The normal forms of what a group has between its commas; None when one is neither a number nor mathematics."""
    if ";" in text:
        parts = re.split(r"\s*;\s*", text)
    else:
        parts = re.split(r",\s+(?:and\s+)?|\s+and\s+", text) if _WIDE_COMMA.search(text) else _SEPARATOR.split(text)
        if any(re.search(r"[0-9],[0-9]", part) and not quantity(part, decimal_comma) for part in parts):
            parts = _SEPARATOR.split(text)
    if len(parts) > _MAX_ELEMENTS or not all(parts):
        return None
    read = [quantity(part, decimal_comma) or _expression(part) or _letter(part) for part in parts]
    if any(each is None or each.kind is AnswerKind.INTERVAL for each in read):
        return None
    return [str(each) for each in read]


def _letter(text: str) -> Answer | None:
    return Answer(AnswerKind.EXPRESSION, text) if re.fullmatch(r"[a-zA-Z]|inf", text) else None


def _expression(text: str) -> Answer | None:
    if not _SIGN.search(text) or not _MATHEMATICS.fullmatch(text):
        return None
    return Answer(AnswerKind.EXPRESSION, _TIGHT.sub(r"\1", text))


def _without_reason(text: str) -> str:
    """The text before ", which ..." and the like."""
    found = _WHY.search(text)
    return text[: found.start()] if found else ""


def _text(text: str) -> Answer | None:
    folded = text.casefold().strip(_EDGES)
    if found := _YES_NO.match(folded):
        folded = found[1]
    return Answer(AnswerKind.TEXT, folded) if folded else None
