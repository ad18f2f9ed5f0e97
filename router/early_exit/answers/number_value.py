"""Reads numbers exactly: thousands marks, fractions, powers, words of scale and number words.

A number is what the whole text is, or there is none: `number_value("half of 5")` is None. What is longer than
`MAX_DIGITS` is none either, for arithmetic on it can take seconds.
"""

import re
from fractions import Fraction

MAX_DIGITS = 60

# Thousands by comma (also as in India), apostrophe or space; "3,5" is no such number.
_INTEGER = (
    r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,20}(?![0-9,])|[0-9]{1,2}(?:,[0-9]{2}){1,20},[0-9]{3}(?![0-9,])"
    r"|[0-9]{1,3}(?:'[0-9]{3}){1,20}(?![0-9])|[0-9]{1,3}(?: [0-9]{3}){1,20}(?![0-9/])|[0-9]+)"
)
# 1.234,5 and 1 234,5 and 1.234.567 can be read in one way only.
_CONTINENTAL = (
    r"[0-9]{1,3}(?:(?: [0-9]{3}){1,20}|(?:'[0-9]{3}){1,20}),[0-9]+(?!,)"
    r"|[0-9]{1,3}(?:\.[0-9]{3}){1,20},[0-9]+|[0-9]{1,3}(?:\.[0-9]{3}){2,20}(?![0-9.])"
)
DECIMAL = rf"(?:{_CONTINENTAL}|{_INTEGER}(?:\.[0-9]+)?|\.[0-9]+)"
NUMBER = (
    rf"(?:[0-9]+ [0-9]+/[0-9]+|{DECIMAL}"
    r"(?:(?: ?[*x] ?10)?\^\(?[+-]?[0-9]{1,3}\)?|[eE][+-]?[0-9]{1,2}(?![0-9a-zA-Z])| ?/ ?[0-9]+(?![0-9/.]))?)"
)
# In languages with a decimal comma.
COMMA_NUMBER = (
    r"(?:[0-9]{1,3}(?:(?:\.[0-9]{3}){1,20}|(?:'[0-9]{3}){1,20}|(?: [0-9]{3}){1,20})(?:,[0-9]+)?|[0-9]+(?:,[0-9]+)?)"
    r"(?![0-9.,]*[0-9])"
)
# There, models also write as in English: 1,234 and 1.234 may be over a thousand or under two.
_AMBIGUOUS = r"[1-9][0-9]{0,2}[.,][0-9]{3}(?![0-9.,]*[0-9])"

_DECIMAL_ALONE = re.compile(DECIMAL)
_MIXED = re.compile(r"([0-9]+) ([0-9]+)/([0-9]+)")
_POWER = re.compile(rf"({DECIMAL})(?:(?: ?[*x] ?)(10))?\^\(?([+-]?[0-9]{{1,3}})\)?")
_SCIENTIFIC = re.compile(rf"({DECIMAL})[eE]([+-]?[0-9]{{1,2}})")
_RATIO = re.compile(rf"({DECIMAL}) ?/ ?([0-9]+)")
_COMMA_ALONE = re.compile(COMMA_NUMBER)

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
)
WORDS = {word: value for value, word in enumerate(f"{_UNITS} eighteen nineteen".split())}
TENS = dict(
    zip(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], range(20, 100, 10), strict=True)
)
# Of short scale; a language where "billion" means something else is not read with these (see `scale`).
SCALES = {
    "dozen": 12, "hundred": 100, "thousand": 10**3, "lakh": 10**5, "million": 10**6, "crore": 10**7,
    "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
OTHER_SCALES = {
    "tausend": 10**3, "mil": 10**3, "mille": 10**3, "million": 10**6, "millionen": 10**6, "millions": 10**6,
    "millón": 10**6, "millones": 10**6, "milhão": 10**6, "milhões": 10**6, "milione": 10**6, "milioni": 10**6,
    "milliarde": 10**9, "milliarden": 10**9, "milliard": 10**9, "milliards": 10**9,
}  # fmt: skip
IDEOGRAPHS = {"百": 100, "千": 10**3, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8, "만": 10**4, "억": 10**8}


_NO_BOUND = 10**15


def number_value(text: str, decimal_comma: bool = False) -> Fraction | None:
    """The value of a number without a sign, in digits or in English words; None where the text is anything else.

    Args:
        text: Plain text, lower case, without spaces around it.
        decimal_comma: Whether "3,5" is three and a half.
    """
    if sum(map(str.isdigit, text)) > MAX_DIGITS:
        return None
    try:
        return _digits(text, decimal_comma) if any(map(str.isdigit, text)) else _words(text)
    except ZeroDivisionError:
        return None


def scale(word: str, decimal_comma: bool = False) -> int | None:
    """What a word of scale multiplies with: 10^6 for "million"."""
    word = word.casefold()
    if word in IDEOGRAPHS:
        return IDEOGRAPHS[word]
    if decimal_comma:
        return OTHER_SCALES.get(word)
    return SCALES.get(word) or SCALES.get(word.removesuffix("s"))


def format_number(value: Fraction) -> str:
    """A finite decimal where there is one, else a reduced fraction."""
    factor, twos, fives = value.denominator, 0, 0
    while factor % 2 == 0:
        factor, twos = factor // 2, twos + 1
    while factor % 5 == 0:
        factor, fives = factor // 5, fives + 1
    places = max(twos, fives)
    if factor != 1 or places > MAX_DIGITS:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def _digits(text: str, decimal_comma: bool) -> Fraction | None:
    if decimal_comma and re.fullmatch(_AMBIGUOUS, text):
        return None
    if decimal_comma and _COMMA_ALONE.fullmatch(text):
        return Fraction(re.sub("[.' ]", "", text).replace(",", "."))
    if _DECIMAL_ALONE.fullmatch(text):
        return _decimal(text)
    if found := _MIXED.fullmatch(text):
        return int(found[1]) + Fraction(int(found[2]), int(found[3]))
    if found := _RATIO.fullmatch(text):
        return _decimal(found[1]) / int(found[2])
    if found := _SCIENTIFIC.fullmatch(text):
        return _decimal(found[1]) * Fraction(10) ** int(found[2])
    if found := _POWER.fullmatch(text):
        factor, base = (_decimal(found[1]), Fraction(10)) if found[2] else (Fraction(1), _decimal(found[1]))
        exponent = int(found[3])
        if abs(exponent) * len(found[2] or found[1]) > MAX_DIGITS:
            return None
        return factor * base**exponent
    return None


def _decimal(text: str) -> Fraction:
    if re.fullmatch(_CONTINENTAL, text):
        return Fraction(re.sub("[.' ]", "", text).replace(",", "."))
    return Fraction(re.sub("[,' ]", "", text))


def _words(text: str) -> Fraction | None:
    """English number words up to trillions: "two hundred and five", "twenty-one"."""
    words = text.replace("-", " ").split()
    if not 0 < len(words) <= 20 or "and" in (words[0], words[-1]):
        return None
    total, group = 0, 0  # of complete thousands, and of the thousand that is read
    below, bound = _NO_BOUND, _NO_BOUND  # what the next part, and the next word of scale, must be smaller than
    for word in words:
        if word == "and":
            continue
        value = WORDS.get(word, TENS.get(word))
        if value is not None:
            if value >= below or (value == 0 and len(words) > 1):
                return None
            group, below = group + value, 10 if word in TENS else 0
        elif word == "hundred" and 0 < group < 10:
            group, below = group * 100, 100
        elif word in ("thousand", "million", "billion", "trillion") and group and SCALES[word] < bound:
            total, group, below, bound = total + group * SCALES[word], 0, 1000, SCALES[word]
        else:
            return None
    return Fraction(total + group)
