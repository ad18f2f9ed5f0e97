"""Finding one's way in JSON without parsing it: values are skipped from quote to quote and bracket to bracket.

What is skipped is not checked: a value may turn out to be no JSON for who parses it. What is found is
certain all the same: in JSON no quote, bracket or comma of a skipped value can be taken for one outside it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

SHORT = 4096  # bytes of a value that is worth parsing whole
DEEP = 8  # levels of lists and objects of which the begin is looked at
_SPACE = re.compile(rb"[ \t\n\r]*")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]+")
_STRUCTURE = re.compile(rb'["\[\]{}]')
_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)  # possessive: nothing is kept for going back
_NESTED = (b'"', b"[", b"{")


class SkimError(ValueError):
    """The text is not JSON, as far as it was looked at, or so intricate that parsing it is faster."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object: where its name begins, where its value begins, and where that ends."""

    name: str
    start: int
    value: int
    end: int


class Skim:
    """A look at one text; every method raises `SkimError`.

    Args:
        raw: The text.
        steps: The most strings, brackets and other values to look at.
    """

    def __init__(self, raw: bytes, steps: int = 50_000) -> None:
        self._raw = raw
        self._left = steps

    def members(self) -> list[Member]:
        """The members of the object that the whole text is."""
        found = list(self._members(self._space(0)))
        at = self._space(found[-1].end) if found else self._token(self._space(0), b"{")
        if self._token(at, b"}") != len(self._raw):
            raise SkimError("there is more behind the object")
        return found

    def begin(self, start: int, end: int, most: int, depth: int = DEEP) -> Any:
        """A value without what comes after its first `most` bytes or so.

        Strings and lists of numbers are cut there. Other lists keep their length, with None for the rest.
        """
        raw = self._raw
        if end - start <= SHORT:
            return _parsed(raw[start:end])
        first = raw[start : start + 1]
        if first == b'"':
            return _begin_of_string(raw[start + 1 : min(end - 1, start + 1 + most)])
        if depth == 0:
            raise SkimError("it is nested too deeply")
        if first == b"{":
            return {each.name: self.begin(each.value, each.end, most, depth - 1) for each in self._members(start)}
        at = inside = self._token(start, b"[")
        if raw[at : at + 1] not in _NESTED:
            cut = raw[at : min(end - 1, at + most)]
            return _parsed(b"[%b]" % (cut if at + most >= end - 1 else cut.rpartition(b",")[0]))
        found = []
        while True:
            stop = self._skip(at)
            left = most - (at - inside)
            found.append(self.begin(at, stop, left, depth - 1) if left > 0 else None)
            at = self._space(stop)
            if raw[at : at + 1] == b"]":
                return found
            at = self._token(at, b",")

    def _members(self, at: int) -> Iterator[Member]:
        at = self._token(at, b"{")
        if self._raw[at : at + 1] == b"}":
            return
        while True:
            end = self._string(at)
            value = self._token(self._space(end), b":")
            member = Member(_parsed(self._raw[at:end]), at, value, self._skip(value))
            yield member
            at = self._space(member.end)
            if self._raw[at : at + 1] == b"}":
                return
            at = self._token(at, b",")

    def _skip(self, at: int) -> int:
        """Where the value that begins at `at` ends."""
        first = self._raw[at : at + 1]
        if first == b'"':
            return self._string(at)
        if first in {b"[", b"{"}:
            return self._bracketed(at)
        self._step()
        found = _SCALAR.match(self._raw, at)
        if found is None:
            raise SkimError(f"there is no value at byte {at}")
        return found.end()

    def _string(self, at: int) -> int:
        self._step()
        raw = self._raw
        if raw[at : at + 1] != b'"':
            raise SkimError(f"a string is missing at byte {at}")
        end = raw.find(b'"', at + 1)
        if end > 0 and raw[end - 1 : end] != b"\\":
            return end + 1
        found = _STRING.match(raw, at + 1)
        if found is None:
            raise SkimError(f"the string at byte {at} does not end")
        return found.end()

    def _bracketed(self, at: int) -> int:
        raw = self._raw
        last = b"}"
        if raw[at : at + 1] == b"[":
            last = b"]"
            close = raw.find(last, at)
            if close > 0 and all(raw.find(each, at + 1, close) < 0 for each in _NESTED):
                return close + 1  # numbers, perhaps millions of them
        depth = 0
        while True:
            found = _STRUCTURE.search(raw, at)
            if found is None:
                raise SkimError("a list or an object does not end")
            at = found.start()
            what = raw[at : at + 1]
            if what == b'"':
                at = self._string(at)
                continue
            self._step()
            at += 1
            depth += 1 if what in {b"[", b"{"} else -1
            if depth == 0:
                # A list that ended with another bracket would have been searched for its own beyond its end.
                if what != last:
                    raise SkimError(f"{last.decode()!r} is missing at byte {at - 1}")
                return at

    def _step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise SkimError("it is too intricate")

    def _space(self, at: int) -> int:
        found = _SPACE.match(self._raw, at)
        assert found is not None
        return found.end()

    def _token(self, at: int, token: bytes) -> int:
        """Where what comes after a token begins."""
        if self._raw[at : at + 1] != token:
            raise SkimError(f"{token.decode()!r} is missing at byte {at}")
        return self._space(at + 1)


def _parsed(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise SkimError(str(error)) from None


def _begin_of_string(inside: bytes) -> str:
    # An escape or a character may have been cut in two; the longest is a pair of surrogates.
    for less in range(13):
        try:
            text: str = orjson.loads(b'"%b"' % inside[: len(inside) - less])
        except orjson.JSONDecodeError:
            continue
        return text
    raise SkimError("a string is not JSON")
