"""A JSON request body: the fields that the router reads, and the body rendered anew with the router's own fields."""

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from router.errors import BadRequest
from router.http.body.json_scanner import MAX_NESTING, JsonScanner, ScanError

NULL_ESCAPE = b"\\u0000"  # the only way in which JSON can say a null character
LONG_BODY = 1 << 16  # bytes from which on a body is scanned rather than parsed
MAX_PREFIX = 1 << 16  # bytes of a long value that are parsed
FULL_FIELDS = ("sampling_params", "rid")  # parsed whole, however long
TOO_DEEP = f"the body is nested too deeply, over {MAX_NESTING} levels; send a flatter one."
SPARE_LEVELS = 254 - MAX_NESTING  # orjson writes 254 levels; the router puts values of a body a few levels deeper


class Body:
    """A parsed body.

    Attributes:
        fields: The top-level fields.
        may_have_nulls: Whether a null character stands in it, perhaps within JSON in a text.
    """

    def __init__(self, fields: dict[str, Any], *, may_have_nulls: bool = False) -> None:
        self.fields = fields
        self.may_have_nulls = may_have_nulls

    def all_fields(self) -> dict[str, Any]:
        """All top-level fields with their whole values."""
        return self.fields

    def remove(self, name: str) -> None:
        """Remove a field, if it is there."""
        self.fields.pop(name, None)

    def render(self, overrides: Mapping[str, Any], dropped: Collection[str] = ()) -> bytes:
        """The JSON text to send on.

        Args:
            overrides: Fields that replace or extend the body's own.
            dropped: Names of the body's fields to leave out.

        Raises:
            BadRequest: The body is nested too deeply.
        """
        kept = {name: value for name, value in self.fields.items() if name not in dropped}
        try:
            return orjson.dumps({**kept, **overrides})
        except TypeError:
            raise BadRequest(TOO_DEEP) from None


class LongBody(Body):
    """A long body, kept as bytes; `fields` has only the first part of long strings and lists.

    Values are not checked: the workers parse them and report errors.

    Raises:
        ScanError: It is no JSON object, or has too many values to scan.
    """

    def __init__(self, raw: bytes) -> None:
        scanner = JsonScanner(raw)
        self._raw = raw
        self._members = scanner.members()
        limits = {name: len(raw) for name in FULL_FIELDS}
        super().__init__(
            {
                member.name: scanner.prefix(member.value_start, member.end, limits.get(member.name, MAX_PREFIX))
                for member in self._members
            },
            may_have_nulls=NULL_ESCAPE in raw,
        )

    def all_fields(self) -> dict[str, Any]:
        """As of `Body`; parses the body, and raises `BadRequest` when it is no JSON."""
        parsed = parse_object(self._raw)
        return {name: value for name, value in parsed.items() if name in self.fields}

    def remove(self, name: str) -> None:
        """Remove a field, if it is there."""
        super().remove(name)
        self._members = [member for member in self._members if member.name != name]

    def render(self, overrides: Mapping[str, Any], dropped: Collection[str] = ()) -> bytes:
        """As of `Body`; the body's own fields are copied as bytes."""
        kept = [member for member in self._members if member.name not in overrides and member.name not in dropped]
        view = memoryview(self._raw)
        parts: list[bytes | memoryview] = [b"{", orjson.dumps(dict(overrides))[1:-1]]
        for member in kept:
            parts += [b"," if parts[-1] else b"", view[member.start : member.end]]
        return b"".join([*parts, b"}"])


def read_body(raw: bytes) -> Body:
    """A body from its bytes; a long one is scanned where that is possible.

    Raises:
        BadRequest: It is no JSON object.
    """
    if len(raw) >= LONG_BODY:
        try:
            return LongBody(raw)
        except ScanError:
            pass  # parsing names the mistake, if there is one
    return Body(parse_object(raw), may_have_nulls=NULL_ESCAPE in raw)


def parse_object(raw: bytes) -> dict[str, Any]:
    """A JSON object from its bytes; raises `BadRequest` for anything else, or one that is nested too deeply."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON ({error}).") from None
    if raw.count(b"[") + raw.count(b"{") > MAX_NESTING:
        _refuse_deep(value)
    if not isinstance(value, dict):
        raise BadRequest(f"the body must be a JSON object, not {_json_type(value)}.")
    return value


def _refuse_deep(value: Any) -> None:
    """Raise `BadRequest` for what could not be written again: orjson parses deeper nesting than it writes."""
    for _ in range(SPARE_LEVELS):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError:
        raise BadRequest(TOO_DEEP) from None


def _json_type(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
