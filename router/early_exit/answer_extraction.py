r"""Extracts the final answer from an agent's text, in a normal form that equal answers share.

`extract_answer` tries the extractors in this order:

    boxed        the last \boxed{...} whose braces close
    stated       the last "the answer is X", "final answer: X" or "#### X"
    choice       the letter of a multiple-choice option: (B), "B." on a line
    last_number  the last number

and brings the result to a normal form with `normalise`. A new extractor is a function in `EXTRACTORS`. All must be
linear in the text's length: the texts are whatever a model wrote, and this runs on the router's event loop.
"""

import re
from collections.abc import Callable
from fractions import Fraction

Extractor = Callable[[str], str | None]

_MAX_DIGITS = 60  # longer numbers are compared as text: Python's arithmetic on them can take seconds

_INTEGER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.[0-9]+)?|\.[0-9]+)"
_FRACTION = rf"\\frac\{{[+-]?{_INTEGER}\}}\{{{_INTEGER}\}}"
_NUMBER = rf"[+-]?(?:{_INTEGER}?{_FRACTION}|{_DECIMAL}(?:/{_INTEGER}|e[+-]?[0-9]{{1,2}}(?![0-9]))?)"

_BRACES = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{|\\.|[{}]", re.DOTALL)
_STATED = re.compile(
    r"(?:\banswer\b[*_`]{0,3}\s{0,3}(?:is|are|:|=)|####)[*_`]{0,3}\s{0,3}:?[*_`]{0,3}[^\S\n]{0,3}\n{0,2}([^\n]+)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.;!?](?=\s|$)")
_PARENTHESES = re.compile(r"(?<![\w)\]}])\(([A-J])\)")
_OPTION_LINE = re.compile(r"^[ \t*]{0,8}(?:option |choice )?([A-J])[.):](?=[\s*]|$)", re.MULTILINE | re.IGNORECASE)
_LEADING_CHOICE = re.compile(
    r"^(?:(?:option|choice)\s+)?(?:\(([A-Ja-j])\)|([A-J])[.):](?=\s|$)|([A-J])$)(?!\s*[+*/^=<>-])", re.IGNORECASE
)
_FREE_NUMBER = re.compile(rf"(?<![\w.^{{]){_NUMBER}(?![0-9])")
_WHOLE_NUMBER = re.compile(_NUMBER)
_PROSE = re.compile(rf"(?:[a-z' ,:=]*[ :=])?({_NUMBER})(?:[ -]?[a-z' ,/]*(?:\^?[23])?)?")
_WORD = re.compile(r"[a-z]+")
# Beside a number these are mathematics, not units or prose: the answer is more than the number.
_MATHEMATICS = frozenset(
    _WORD.findall("and or to plus minus times over mod pi i x y z n k e ln log sin cos tan sqrt not")
)
_WRAPPED = re.compile(r"\\(?:text|mathrm|mathbf|textbf|boxed|fbox)\s{0,3}\{([^{}]*)\}")
_BARE_FRACTION = re.compile(r"\\frac\s?([0-9])\s?([0-9])(?![0-9])")
_IGNORED_MARKUP = re.compile(r"\\(?:left|right|displaystyle|quad|[!,;: ()\[\]])|\^\s?\{?\\circ\}?|\\?\$|\\?%|[*`°€£]")


def boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` whose braces close; of nested ones the inner."""
    last: tuple[int, int] | None = None
    opened: list[tuple[int, bool]] = []
    for match in _BRACES.finditer(text):
        brace = match.group()
        if brace[-1] == "{" and brace != "\\{":
            opened.append((match.end(), len(brace) > 1))
        elif brace == "}" and opened:
            start, is_box = opened.pop()
            if is_box and (last is None or start > last[0]):
                last = (start, match.start())
    return None if last is None else text[last[0] : last[1]]


def stated(text: str) -> str | None:
    """X of the last "(final) answer: X", "the answer is X" or "#### X", to the end of its sentence."""
    last = None
    for match in _STATED.finditer(text):
        last = match
    if last is None:
        return None
    answer = last.group(1).strip()
    end = _SENTENCE_END.search(answer)
    return answer if end is None else answer[: end.start() + 1]


def choice(text: str) -> str | None:
    """The letter, A to J, of the option that a text chooses.

    That is the last letter in parentheses; else the one that lines begin with ("B. ..."), if it is a single letter:
    several are the question's options repeated.
    """
    letters = _PARENTHESES.findall(text)
    if letters:
        return str(letters[-1])
    lines = {letter.upper() for letter in _OPTION_LINE.findall(text)}
    return lines.pop() if len(lines) == 1 else None


def last_number(text: str) -> str | None:
    r"""The last number as it stands: with thousands' commas, as a/b or as `\frac{a}{b}`."""
    last = None
    for match in _FREE_NUMBER.finditer(_strip_markup(text)):
        last = match.group()
    return last


def number(text: str) -> str | None:
    r"""A number's normal form: "1,234.50" is "1234.5", "2/4" and `\frac{1}{2}` are "0.5", "4/6" is "2/3".

    None when the text as a whole is no number, or one of over 60 digits.
    """
    text = _strip_markup(text).strip()
    if not _WHOLE_NUMBER.fullmatch(text) or sum(map(str.isdigit, text)) > _MAX_DIGITS:
        return None
    try:
        return _format_number(_parse_number(text.replace(",", "")))
    except ZeroDivisionError:
        return None


def normalise(answer: str) -> str:
    r"""The normal form of a short answer; "" when nothing of it remains.

    Case, spaces, markdown, `$`, `\text{...}` and a last full stop are ignored. A percent sign is dropped ("50%" is
    "50", as in answer keys); so are units and words around a single number ("18 dollars", "x = 18"). A choice is its
    letter, whatever follows it.
    """
    plain = _strip_markup(answer).strip()
    option = _LEADING_CHOICE.match(plain)
    if option:
        return next(letter for letter in option.groups() if letter).upper()
    plain = " ".join(plain.casefold().split()).rstrip(".,;: ")
    prose = _PROSE.fullmatch(plain)
    if prose and _MATHEMATICS.isdisjoint(_WORD.findall(plain.replace(prose.group(1), " ")) if "=" not in plain else ()):
        plain = prose.group(1)
    return number(plain) or plain


EXTRACTORS: tuple[Extractor, ...] = (boxed, stated, choice, last_number)


def extract_answer(text: str, extractors: tuple[Extractor, ...] = EXTRACTORS) -> str | None:
    """The normal form of the first extractor's non-empty result; None when there is none."""
    for extractor in extractors:
        answer = extractor(text)
        if answer is not None and (normal := normalise(answer)):
            return normal
    return None


def _strip_markup(text: str) -> str:
    """The text without formatting markup, and with one spelling of minus and fraction."""
    text = text.replace("\u2212", "-").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = _WRAPPED.sub(r"\1", text)
    return _BARE_FRACTION.sub(r"\\frac{\1}{\2}", _IGNORED_MARKUP.sub("", text))


def _parse_number(text: str) -> Fraction:
    """The value of a number without commas; raises ZeroDivisionError."""
    sign = -1 if text[0] == "-" else 1
    text = text.lstrip("+-")
    whole, latex, parts = text.partition("\\frac{")
    if latex:
        numerator, denominator = parts.rstrip("}").split("}{")
        return sign * (Fraction(whole or 0) + Fraction(int(numerator), int(denominator)))
    numerator, slash, denominator = text.partition("/")
    return sign * (Fraction(numerator) / int(denominator) if slash else Fraction(numerator))


def _format_number(value: Fraction) -> str:
    """A finite decimal where there is one, else a reduced fraction."""
    factor, twos, fives = value.denominator, 0, 0
    while factor % 2 == 0:
        factor, twos = factor // 2, twos + 1
    while factor % 5 == 0:
        factor, fives = factor // 5, fives + 1
    if factor != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    if places > _MAX_DIGITS:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)
