r"""Finds the final answer in an agent's text.

`find_answer` tries the extractors in this order:

    boxed        the last \boxed{...} whose braces close
    stated       the last "the answer is X", "final answer: X" or "#### X", in several languages
    choice       the letter of a multiple-choice option: (B), "B." on a line, "option B is correct"
    last_number  the number that ends the text, with its sign, bound, power and unit

A new extractor is a function in `EXTRACTORS`. All are linear in the text's length and look at its last `MAX_TEXT`
characters only: the texts are whatever a model wrote, and this runs on the router's event loop. Whoever reads answers
of one known kind, as benchmarks do, names the extractors of it; `find_span` gives an answer's words as they stand.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from router.early_exit.answers.answer import Answer
from router.early_exit.answers.last_number import last_number
from router.early_exit.answers.markup import plain_characters
from router.early_exit.answers.reading import option, read_answer
from router.early_exit.answers.statements import last_statement

Extractor = Callable[[str], Answer | None]

MAX_TEXT = 20_000  # characters

_BRACES = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{|\\.|[{}]", re.DOTALL)

_LINE_OPTION = re.compile(
    r"^[ \t*]{0,8}(?:option |choice )?([A-J])([.):])(?=[\s*]|$)([^\n]{0,60})", re.MULTILINE | re.IGNORECASE
)
_PARENTHESES = re.compile(r"(?<![\w)\]}])\(([A-J])\)")
_SAID_RIGHT = re.compile(
    r"\b(?:option|choice|answer)\s\(?([A-J])\)?\s(?:is|must be|would be)\s(?:therefore\s|thus\s|the\s)?"
    r"(?:correct|right|best|true)",
    re.IGNORECASE,
)
_LONE_LETTER = re.compile(r"(?:^|\n)[ \t*_]{0,8}\(?([A-Ja-j])\)?[.):]?[ \t*_]{0,8}\s*$")
_LETTERS = "ABCDEFGHIJ"


def box_content(text: str) -> str | None:
    r"""What stands in the last `\boxed{...}` whose braces close; of nested ones in the inner."""
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


def boxed(text: str) -> Answer | None:
    r"""The answer in the last `\boxed{...}`."""
    content = box_content(text)
    return None if content is None else read_answer(content)


def stated(text: str) -> Answer | None:
    """The answer of the last statement."""
    statement = last_statement(text)
    return None if statement is None else read_answer(statement.said, statement.decimal_comma)


def choice(text: str) -> Answer | None:
    """The letter, A to J, of the option that a text chooses.

    That is the letter that is the last line; else that of "option B is correct"; else the last one in parentheses; else
    the one that lines begin with ("B. ..."), if it is a single letter: several are the question's options repeated.
    """
    found = _LONE_LETTER.search(text[-40:]) if len(text) > 40 else _LONE_LETTER.search(text)
    if found:
        return option(found[1])
    letters = _SAID_RIGHT.findall(text) or _PARENTHESES.findall(text)
    if letters and not (len(letters) > 2 and letters == list(_LETTERS[: len(letters)])):
        return option(letters[-1])
    lines = [option(letter, words if mark == "." else "") for letter, mark, words in _LINE_OPTION.findall(text)]
    chosen = [line for line in lines if line is not None]
    return chosen[-1] if len({line.normal for line in chosen}) == 1 else None


EXTRACTORS: Mapping[str, Extractor] = {"boxed": boxed, "stated": stated, "choice": choice, "last_number": last_number}


def find_answer(text: str, extractors: Iterable[str] = EXTRACTORS) -> Answer | None:
    """What the first extractor finds; None when none finds anything.

    Args:
        text: What the agent wrote.
        extractors: Names of `EXTRACTORS`, in the order in which they are tried.
    """
    text = plain_characters(text[-MAX_TEXT:])[-MAX_TEXT:]  # one character may become several
    for extractor in extractors:
        if answer := EXTRACTORS[extractor](text):
            return answer
    return None


def find_span(text: str) -> str | None:
    """The words of the answer as the text has them, in its last box or else its last statement; None without either."""
    content = box_content(text[-MAX_TEXT:])
    if content is not None:
        return content
    statement = last_statement(text[-MAX_TEXT:])
    return None if statement is None else statement.said
