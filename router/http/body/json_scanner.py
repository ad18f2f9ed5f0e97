"""Finds the members of a JSON object without parsing it: values are skipped from quote to quote, bracket to bracket.

Skipped values are not checked and may be invalid JSON. Members are found reliably all the same: no quote, bracket or
comma inside a skipped value can be mistaken for one outside it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

SHORT_VALUE = 4096  # bytes up to which a value is parsed whole
MAX_DEPTH = 8  # levels of lists and objects of which prefixes are taken
MAX_NESTING = 246  # levels of lists and objects in a text, its own object included
_WHITESPACE = re.compile(rb"[ \t\n\r]*")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]+")
_QUOTE_OR_BRACKET = re.compile(rb'["\[\]{}]')
_REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)  # possessive: no backtracking
_OPENINGS = (b'"', b"[", b"{")


class ScanError(ValueError):
    """The text is not JSON, as far as it was scanned, or has so many values that parsing it is faster."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object, with byte offsets: the start of its name, the start and the end of its value."""

    name: str
    start: int
    value_start: int
    end: int


class JsonScanner:
    """Scans one JSON text; every method raises `ScanError`.

    Args:
        raw: The text.
        max_steps: Strings, brackets and other values to scan at most.
    """

    def __init__(self, raw: bytes, max_steps: int = 50_000) -> None:
        self._raw = raw
        self._steps_left = max_steps

    def members(self) -> list[Member]:
        """The members of the text's object."""
        members = list(self._members(self._skip_whitespace(0)))
        at = self._skip_whitespace(members[-1].end) if members else self._expect(self._skip_whitespace(0), b"{")
        if self._expect(at, b"}") != len(self._raw):
            raise ScanError("there is more behind the object")
        return members

    def prefix(self, start: int, end: int, max_bytes: int, depth: int = MAX_DEPTH) -> Any:
        """The value between two offsets, cut after about `max_bytes` bytes.

        Strings and lists of numbers are cut there. Other lists keep their length, with None for the rest.
        """
        raw = self._raw
        if end - start <= SHORT_VALUE:
            return _parse(raw[start:end])
        first = raw[start : start + 1]
        if first == b'"':
            return _string_prefix(raw[start + 1 : min(end - 1, start + 1 + max_bytes)])
        if depth == 0:
            raise ScanError("it is nested too deeply")
        if first == b"{":
            return {
                member.name: self.prefix(member.value_start, member.end, max_bytes, depth - 1)
                for member in self._members(start)
            }
        at = content_start = self._expect(start, b"[")
        if raw[at : at + 1] not in _OPENINGS:
            numbers = raw[at : min(end - 1, at + max_bytes)]
            return _parse(b"[%b]" % (numbers if at + max_bytes >= end - 1 else numbers.rpartition(b",")[0]))
        items = []
        while True:
            item_end = self._skip_value(at)
            bytes_left = max_bytes - (at - content_start)
            items.append(self.prefix(at, item_end, bytes_left, depth - 1) if bytes_left > 0 else None)
            at = self._skip_whitespace(item_end)
            if raw[at : at + 1] == b"]":
                return items
            at = self._expect(at, b",")

    def _members(self, at: int) -> Iterator[Member]:
        """The members of the object that starts at `at`."""
        at = self._expect(at, b"{")
        if self._raw[at : at + 1] == b"}":
            return
        while True:
            name_end = self._skip_string(at)
            value_start = self._expect(self._skip_whitespace(name_end), b":")
            member = Member(_parse(self._raw[at:name_end]), at, value_start, self._skip_value(value_start))
            yield member
            at = self._skip_whitespace(member.end)
            if self._raw[at : at + 1] == b"}":
                return
            at = self._expect(at, b",")

    def _skip_value(self, at: int) -> int:
        """The end of the value that starts at `at`."""
        first = self._raw[at : at + 1]
        if first == b'"':
            return self._skip_string(at)
        if first in {b"[", b"{"}:
            return self._skip_brackets(at)
        self._count_step()
        match = _SCALAR.match(self._raw, at)
        if match is None:
            raise ScanError(f"there is no value at byte {at}")
        return match.end()

    def _skip_string(self, at: int) -> int:
        """The end of the string that starts at `at`."""
        self._count_step()
        raw = self._raw
        if raw[at : at + 1] != b'"':
            raise ScanError(f"a string is missing at byte {at}")
        end = raw.find(b'"', at + 1)
        if end > 0 and raw[end - 1 : end] != b"\\":
            return end + 1
        match = _REST_OF_STRING.match(raw, at + 1)
        if match is None:
            raise ScanError(f"the string at byte {at} does not end")
        return match.end()

    def _skip_brackets(self, at: int) -> int:
        """The end of the list or object that starts at `at`."""
        raw = self._raw
        closing = b"}"
        if raw[at : at + 1] == b"[":
            closing = b"]"
            close = raw.find(closing, at)
            if close > 0 and all(raw.find(opening, at + 1, close) < 0 for opening in _OPENINGS):
                return close + 1  # a list of numbers, perhaps of millions
        depth = 0
        while True:
            match = _QUOTE_OR_BRACKET.search(raw, at)
            if match is None:
                raise ScanError("a list or an object does not end")
            at = match.start()
            character = raw[at : at + 1]
            if character == b'"':
                at = self._skip_string(at)
                continue
            self._count_step()
            at += 1
            depth += 1 if character in {b"[", b"{"} else -1
            if depth >= MAX_NESTING:  # the text's own object is one level more
                raise ScanError("it is nested too deeply")
            if depth == 0:
                # Checked, else the search for a list's closing bracket would go on beyond the list's end.
                if character != closing:
                    raise ScanError(f"{closing.decode()!r} is missing at byte {at - 1}")
                return at

    def _count_step(self) -> None:
        """Count one scanned value."""
        self._steps_left -= 1
        if self._steps_left < 0:
            raise ScanError("it is too intricate")

    def _skip_whitespace(self, at: int) -> int:
        """The end of the whitespace at `at`."""
        match = _WHITESPACE.match(self._raw, at)
        assert match is not None
        return match.end()

    def _expect(self, at: int, token: bytes) -> int:
        """The end of a token at `at` and of the whitespace after it."""
        if self._raw[at : at + 1] != token:
            raise ScanError(f"{token.decode()!r} is missing at byte {at}")
        return self._skip_whitespace(at + 1)


def _parse(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ScanError(str(error)) from None


def _string_prefix(content: bytes) -> str:
    """The string whose first bytes, without quotes, are given."""
    # An escape or a character may have been cut in two; the longest is an escaped surrogate pair of 12 bytes.
    for cut in range(13):
        try:
            text: str = orjson.loads(b'"%b"' % content[: len(content) - cut])
        except orjson.JSONDecodeError:
            continue
        return text
    raise ScanError("a string is not JSON")
