"""Reads a number with what stands beside it: sign, currency, words of scale, unit, bound, and what is counted.

Words are left out only where they are known to leave the number's value as it is. With any other word it is no number.
"""

import re
from fractions import Fraction

from router.early_exit.answers.answer import Answer, AnswerKind
from router.early_exit.answers.number_value import COMMA_NUMBER, NUMBER, format_number, number_value, scale
from router.early_exit.answers.units import unit

# Words before a number that leave its value as it is.
_ROUGHLY = (
    r"a total of|total of|the|answer|result|total|value|is|equals?|equal to|about|approx\.?|approximately|around"
    r"|roughly|exactly|ca\.?|circa|just|only|simply|≈|~|=|:|environ|etwa|ungefähr|aproximadamente"
)
_LEADING = re.compile(rf"(?:{_ROUGHLY})(?:(?<!\w)|(?!\w))\s*", re.IGNORECASE)
_VARIABLE = re.compile(r"((?:[a-zA-Z]|theta|alpha|beta)(?:_\w)?)\s*=\s*")
_CURRENCY = {
    "$": "$",
    "us$": "$",
    "usd": "$",
    "€": "€",
    "eur": "€",
    "£": "£",
    "gbp": "£",
    "¥": "¥",
    "₹": "₹",
    "rs.": "₹",
}
_MONEY = {"dollar": "$", "buck": "$", "euro": "€", "usd": "$", "eur": "€", "gbp": "£", "$": "$", "€": "€", "£": "£"}
_BOUNDS = {
    ">=": r"at least|(?:no|not) (?:less|fewer) than|(?:a )?minimum of|>=|mindestens|au moins|al menos|至少",
    "<=": r"at most|(?:no|not) more than|up to|(?:a )?maximum of|<=|höchstens|au plus|como máximo|至多|不超过",
    ">": r"more than|greater than|larger than|over|above|>|mehr als|plus de|más de|大于|超过",
    "<": r"less than|fewer than|smaller than|under|below|<|weniger als|moins de|menos de|小于|少于",
}
_BOUND = re.compile("|".join(rf"(?P<b{i}>{words})" for i, words in enumerate(_BOUNDS.values())), re.IGNORECASE)
_OPEN_END = {
    ">=": re.compile(r"\s*(?:or|and) (?:more|above|greater|higher|up)$|\+$", re.IGNORECASE),
    "<=": re.compile(r"\s*(?:or|and) (?:less|fewer|below|lower)$", re.IGNORECASE),
}
_NEGATIVE = re.compile(r"(?:negative|minus|moins|menos)\s+|负|-\s?(?=[0-9.$€£])", re.IGNORECASE)
_TOTAL = re.compile(r",?\s+(?:in total|in all|altogether|total|overall|insgesamt|en tout|en total)$", re.IGNORECASE)
_NUMBER = {False: re.compile(NUMBER), True: re.compile(COMMA_NUMBER)}
_SCALE_LETTERS = {"k": 10**3, "K": 10**3, "m": 10**6, "M": 10**6, "bn": 10**9, "B": 10**9, "b": 10**9, "T": 10**12}
_COUNTED = re.compile(r"(?:[a-z'-]+ ){0,2}([a-z'-]{3,})", re.IGNORECASE)
_PLURALS = frozenset(["people", "men", "women", "children", "mice", "teeth", "geese", "sheep", "fish", "deer"])
# Words that look like what is counted and are not.
_NOT_COUNTED = frozenset(
    [
        "and", "or", "to", "plus", "minus", "times", "over", "mod", "modulus", "not", "less", "more", "than",
        "of", "out", "per", "in", "by", "pi", "half", "halves", "third", "thirds", "quarter", "quarters",
        "fourths", "fifths", "sixths", "sevenths", "eighths", "ninths", "tenths", "hundredths", "thousandths",
        "tens", "dozens", "hundreds", "thousands", "millions", "billions", "trillions", "squares", "squared",
        "cubed", "percents", "points", "each", "degrees", "ones", "is", "was", "always", "sometimes", "perhaps",
    ]
)  # fmt: skip


def quantity(text: str, decimal_comma: bool = False) -> Answer | None:
    """The number or bound that a plain text is, with its unit and what is counted; None when it is anything else."""
    bound, rest = None, text.strip()
    subject = ""
    while True:  # each round takes a word off
        if found := _LEADING.match(rest):
            rest = rest[found.end() :]
        elif bound is None and (found := _BOUND.match(rest)) and not rest[found.end() : found.end() + 1].isalpha():
            bound, rest = _operator(found), rest[found.end() :].lstrip()
        elif not subject and (found := _VARIABLE.match(rest)):
            subject, rest = found[1], rest[found.end() :]
        else:
            break
    negative = _NEGATIVE.match(rest)
    rest = rest[negative.end() :] if negative else rest.removeprefix("+")
    currency = next((sign for sign in _CURRENCY if rest.casefold().startswith(sign)), None)
    if currency:
        rest = rest[len(currency) :].lstrip()
        negative = negative or _NEGATIVE.match(rest)
        rest = rest.removeprefix("-")
    rest = _TOTAL.sub("", rest)
    for operator, pattern in _OPEN_END.items():
        if bound is None and (found := pattern.search(rest)):
            bound, rest = operator, rest[: found.start()]
    value, suffix = _leading_value(rest, decimal_comma)
    if value is None:
        return None
    measured = _measured(value, suffix, bool(currency), decimal_comma)
    if measured is None:
        return None
    value, base, counted = measured
    if currency and (base or counted not in ("", _CURRENCY[currency])):
        return None
    if negative and re.match(r"[^^]*\^", rest) and not re.match(r".*10\^", rest):
        return None  # -2^2 is written for 4 and for -4
    subject = _CURRENCY[currency] if currency else counted or subject
    normal = format_number(-value if negative else value) + (f" {base}" if base else "")
    return Answer(AnswerKind.INTERVAL, bound + normal, subject) if bound else Answer(AnswerKind.NUMBER, normal, subject)


def _operator(found: re.Match[str]) -> str:
    return next(operator for i, operator in enumerate(_BOUNDS) if found[f"b{i}"])


def _leading_value(text: str, decimal_comma: bool) -> tuple[Fraction | None, str]:
    """The number that a text begins with, and the rest."""
    patterns = (_NUMBER[True], _NUMBER[False]) if decimal_comma else (_NUMBER[False],)
    for pattern in patterns:
        if found := pattern.match(text):
            value = number_value(found[0], decimal_comma)
            if value is None:
                return None, text
            rest = text[found.end() :]
            return (None, text) if re.match(r"[.,'/^:]?[0-9]|[/^*=]", rest) else (value, rest)
    words = text.casefold().split()
    for count in range(min(len(words), 12), 0, -1):
        if (value := number_value(" ".join(words[:count]))) is not None:
            return value, " " + " ".join(text.split()[count:])
    return None, text


def _measured(value: Fraction, suffix: str, money: bool, decimal_comma: bool) -> tuple[Fraction, str, str] | None:
    """The value in base units, the base unit, and what is counted; None where the suffix says anything else."""
    attached = bool(suffix) and not suffix[0].isspace()
    words = suffix.split()
    while (
        words
        and ((attached and words[0] in "百千万萬亿億만억") or not attached)
        and (by := scale(words[0], decimal_comma))
    ):
        value, words, attached = value * by, words[1:], False
    if attached and money and words[0] in _SCALE_LETTERS:
        value, words, attached = value * _SCALE_LETTERS[words[0]], words[1:], False
    rest = " ".join(words).removeprefix("of ").removeprefix("- ")
    rest = rest.removeprefix("-") if attached and len(rest) > 3 else rest
    if not rest:
        return value, "", ""
    folded = rest.casefold()
    if folded in ("%", "percent", "per cent", "pct", "prozent", "por ciento", "pour cent"):
        # A bare 50 for 50% can mean nothing else; a bare 0.5 for 0.5% can be the share of a half.
        return (value, "", "%") if abs(value) > 1 else (value, "%", "")
    if folded in ("°", "degree", "degrees", "deg", "grad"):
        return value, "", "°"
    if attached and len(rest) == 1 and rest.isascii() and rest.isalpha():
        return None  # 2a, and 2m may be twice m
    if folded in _MONEY or folded.removesuffix("s") in _MONEY:
        return value, "", _MONEY.get(folded) or _MONEY[folded.removesuffix("s")]
    measure = unit(rest.removeprefix("degrees ").replace("° ", "°"))
    if measure is not None:
        return value * measure[1], measure[0], ""
    if attached:
        return None
    return _counted(value, rest)


def _counted(value: Fraction, rest: str) -> tuple[Fraction, str, str] | None:
    found = _COUNTED.fullmatch(rest)
    words = rest.casefold().split()
    if found is None or not _NOT_COUNTED.isdisjoint(words) or any(_is_value(word) for word in words):
        return None
    plural = words[-1] in _PLURALS or (words[-1].endswith("s") and not words[-1].endswith("ss"))
    if not plural and value != 1:
        return None
    return value, "", " ".join(words) if plural and value != 1 else " ".join(words).removesuffix("s") + "s"


def _is_value(word: str) -> bool:
    return bool(unit(word) or scale(word)) or number_value(word) is not None
