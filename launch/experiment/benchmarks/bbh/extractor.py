"""Finds the answer of BBH: words, brackets and lists of words, which a reader of short answers would cut short."""

import re

from router.early_exit.answers import find_span, plain_characters

# `\W` would take brackets away from the answer.
_SAYS = re.compile(r"\banswer(?:\s+is|\s*:)[ \t]*:?[ \t*_`]*\n{0,2}[ \t]*(?P<said>\S[^\n]*)", re.IGNORECASE)
_BOX = re.compile(r"\\boxed\s?\{(.*)\}")
_MAX_TEXT = 20_000  # characters
_MATH = re.compile(r"^(?:\$|\\\()\s*(.*?)\s*(?:\$|\\\))$")


def find_line(text: str) -> str | None:
    """What the last "the answer is" of a text says to the end of its line, else its box, else its last line."""
    text = plain_characters(text[-_MAX_TEXT:])
    said = [found["said"] for found in _SAYS.finditer(text)]
    if said:
        line = said[-1]
    elif r"\boxed" in text:
        line = find_span(text) or ""
    else:
        line = text.strip().rpartition("\n")[2]
    if box := _BOX.search(line):
        line = box[1]
    line = line.strip(" \t*_`")
    if math := _MATH.match(line):
        line = math[1]
    return line or None
