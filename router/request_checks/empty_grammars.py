"""Refuses JSON schemas and grammars that accept nothing: an SGLang server finds no token to sample, and ends.

One that cannot be parsed here is left to the server, which refuses it.
"""

import re
from collections.abc import Iterator, Mapping
from re import _constants as ops
from re import _parser as parser
from typing import Any

import orjson

from router.errors import BadRequest
from router.request_checks.finite_rules import finite_rules

GRAMMAR_FIELDS = frozenset(("json_schema", "regex", "ebnf", "structural_tag", "response_format"))
MAX_NODES = 10_000  # parts of a schema or grammar that are checked; longer ones are left to the server
_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<define>[A-Za-z_][\w.-]*\s*::=)|(?P<name>[A-Za-z_][\w.-]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|\[(?:[^\]\\\n]|\\.)*\])|(?P<count>\{\s*\d+\s*(?:,\s*\d*\s*)?\})|(?P<sign>[()|*+?])""",
    re.VERBOSE,
)


class _Unreadable(ValueError):
    """A schema or grammar that cannot be parsed here."""


def check_grammars(params: Mapping[str, Any]) -> None:
    """Raise `BadRequest` if a schema or grammar among the sampling fields accepts nothing."""
    readers = {"json_schema": _schema_accepts, "ebnf": _ebnf_accepts, "regex": _regex_accepts}
    for name, accepts in readers.items():
        value = params.get(name)
        if value is not None and not accepts(value):
            raise BadRequest(_refusal(name))
    form = params.get("response_format")
    wrapped = form.get("json_schema") if isinstance(form, dict) else None
    if isinstance(wrapped, dict) and not _schema_accepts(wrapped.get("schema")):
        raise BadRequest(_refusal("response_format"))


def has_grammar(params: Mapping[str, Any]) -> bool:
    """Whether the sampling fields have a grammar of any kind."""
    form = params.get("response_format")
    of_response = isinstance(form, dict) and form.get("type") not in (None, "text")
    return of_response or any(params.get(name) for name in GRAMMAR_FIELDS - {"response_format"})


def _refusal(name: str) -> str:
    return f"`{name}` accepts nothing: it forbids each text, or it refers to itself without an end."


def _schema_accepts(given: Any) -> bool:
    """Whether some finite value fits a JSON schema, parsed or as text; limits of numbers and lengths do not count."""
    try:
        root = orjson.loads(given) if isinstance(given, str) else given
        rules: dict[Any, list[list[Any]]] = {}
        waiting = [root]
        while waiting:
            node = waiting.pop()
            if id(node) not in rules:
                parts = list(_schema_parts(node, root))
                rules[id(node)] = [[id(each) for each in part] for part in parts]
                waiting += [each for part in parts for each in part]
                if len(rules) > MAX_NODES:
                    return True
    except (orjson.JSONDecodeError, _Unreadable, RecursionError):
        return True
    return id(root) in finite_rules(rules)


def _schema_parts(node: Any, root: Any) -> Iterator[list[Any]]:
    """The parts of a schema, each a list of schemas: a value exists only if one of each list has a value."""
    if node is False:
        yield []
    if not isinstance(node, dict):
        return
    if isinstance(node.get("$ref"), str):
        yield [_resolve(node["$ref"], root)]
    for name in ("anyOf", "oneOf"):
        if isinstance(node.get(name), list) and node[name]:
            yield node[name]
    for each in node["allOf"] if isinstance(node.get("allOf"), list) else ():
        yield [each]
    properties, required = node.get("properties"), node.get("required")
    if isinstance(properties, dict) and isinstance(required, list) and node.get("type") == "object":
        for name in required:
            if isinstance(name, str) and name in properties:
                yield [properties[name]]
    least = node.get("minItems")
    if node.get("type") == "array" and isinstance(least, int) and least > 0 and isinstance(node.get("items"), dict):
        yield [node["items"]]


def _resolve(reference: str, root: Any) -> Any:
    """The schema that a reference inside the same document names."""
    if not reference.startswith("#"):
        raise _Unreadable
    node = root
    for part in reference[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or key not in node:
            raise _Unreadable
        node = node[key]
    return node


def _ebnf_accepts(given: Any) -> bool:
    """Whether a grammar in xgrammar's EBNF matches some finite text."""
    try:
        return not isinstance(given, str) or "root" in finite_rules(_Ebnf(given).rules)
    except _Unreadable:
        return True


class _Ebnf:
    """The rules of a grammar in the form that `finite_rules` takes; each alternative is a rule of its own.

    Raises:
        _Unreadable: It cannot be parsed here, or is too long.
    """

    def __init__(self, text: str) -> None:
        self.rules: dict[Any, list[list[Any]]] = {}
        self._tokens = list(self._split(text))
        self._at = 0
        while self._at < len(self._tokens):
            kind, name = self._tokens[self._at]
            if kind != "define" or name in self.rules:
                raise _Unreadable
            self._at += 1
            self.rules[name] = [self._alternatives()]
        if {each for parts in self.rules.values() for part in parts for each in part} - self.rules.keys():
            raise _Unreadable

    @staticmethod
    def _split(text: str) -> Iterator[tuple[str, str]]:
        at = count = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            count += 1
            if match is None or count > MAX_NODES:
                raise _Unreadable
            at = match.end()
            if match.lastgroup is not None:
                yield match.lastgroup, match[match.lastgroup].removesuffix("::=").strip()

    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("define", "")

    def _alternatives(self) -> list[Any]:
        """The alternatives up to the end of the rule, each as a rule of its own."""
        names = [self._sequence()]
        while self._next() == ("sign", "|"):
            self._at += 1
            names.append(self._sequence())
        return names

    def _sequence(self) -> Any:
        parts: list[list[Any]] = []
        while True:
            kind, value = self._next()
            if kind == "define" or value in {"|", ")"}:
                name = object()
                self.rules[name] = parts
                return name
            self._at += 1
            if kind in {"name", "text"}:
                # A text is always there, but for a class of no characters.
                part: list[Any] | None = [value] if kind == "name" else [] if value == "[]" else None
            elif value == "(":
                part = self._group()
            else:
                raise _Unreadable
            following, sign = self._next()
            if sign in {"*", "?", "+"} or following == "count":
                self._at += 1
                if sign in {"*", "?"} or (following == "count" and re.match(r"\{\s*0", sign)):
                    part = None
            if part is not None:
                parts.append(part)

    def _group(self) -> list[Any]:
        group = self._alternatives()
        if self._next() != ("sign", ")"):
            raise _Unreadable
        self._at += 1
        return group


def _regex_accepts(given: Any) -> bool:
    """Whether a regular expression matches some text."""
    if not isinstance(given, str) or len(given) > MAX_NODES:
        return True
    try:
        return _possible(parser.parse(given))
    except (re.error, RecursionError, OverflowError):
        return True


def _possible(parts: Any) -> bool:
    for operation, value in parts:
        if operation is ops.IN and _is_empty_set(value):
            return False
        if operation is ops.BRANCH and not any(_possible(each) for each in value[1]):
            return False
        if operation is ops.SUBPATTERN and not _possible(value[3]):
            return False
        if operation in {ops.MAX_REPEAT, ops.MIN_REPEAT} and value[0] > 0 and not _possible(value[2]):
            return False
    return True


def _is_empty_set(members: Any) -> bool:
    """Whether a class such as `[^\\s\\S]` matches no character."""
    if not members or members[0][0] is not ops.NEGATE:
        return False
    categories = {value for operation, value in members if operation is ops.CATEGORY}
    opposites = (
        (ops.CATEGORY_SPACE, ops.CATEGORY_NOT_SPACE),
        (ops.CATEGORY_DIGIT, ops.CATEGORY_NOT_DIGIT),
        (ops.CATEGORY_WORD, ops.CATEGORY_NOT_WORD),
    )
    if any(set(pair) <= categories for pair in opposites):
        return True
    reached = 0  # all characters below it are left out
    ranges = sorted(
        value if operation is ops.RANGE else (value, value)
        for operation, value in members
        if operation in {ops.RANGE, ops.LITERAL}
    )
    for low, high in ranges:
        if low > reached:
            return False
        reached = max(reached, high + 1)
    return reached > 0x10FFFF
