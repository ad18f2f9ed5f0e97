"""A request's body, sent on with the router's own fields."""

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from router.errors import BadRequest
from router.http.body.json_scan import Skim, SkimError

LONG = 1 << 16  # bytes from which on a body is not parsed
BEGIN = 1 << 16  # bytes of a long value that are looked at
WHOLE = ("sampling_params", "rid")  # of which every part counts


class Body:
    """A body that was parsed.

    Attributes:
        fields: Its top-level fields.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields

    def whole(self) -> dict[str, Any]:
        """All of it."""
        return self.fields

    def without(self, name: str) -> None:
        """Take a field away."""
        self.fields.pop(name, None)

    def render(self, own: Mapping[str, Any], dropped: Collection[str] = ()) -> bytes:
        """As it is sent: the fields in `own` instead of its own ones, and none of those `dropped`.

        Raises:
            BadRequest: It is nested too deeply.
        """
        kept = {key: value for key, value in self.fields.items() if key not in dropped}
        try:
            return orjson.dumps({**kept, **own})
        except TypeError:  # orjson reads deeper nesting than it writes
            raise BadRequest("the request is nested too deeply; send a flatter one.") from None


class LongBody(Body):
    """A long body, kept as it came: `fields` has the begin only of long strings and lists.

    What is wrong inside its values is for the workers to say, who parse them.

    Raises:
        SkimError: It is no JSON object, or too intricate for this.
    """

    def __init__(self, raw: bytes) -> None:
        skim = Skim(raw)
        self._raw = raw
        self._members = skim.members()
        most = {name: len(raw) for name in WHOLE}
        super().__init__(
            {each.name: skim.begin(each.value, each.end, most.get(each.name, BEGIN)) for each in self._members}
        )

    def whole(self) -> dict[str, Any]:
        """All of it, parsed; raises `BadRequest`."""
        parsed = parse_object(self._raw)
        return {key: value for key, value in parsed.items() if key in self.fields}

    def without(self, name: str) -> None:
        """Take a field away."""
        super().without(name)
        self._members = [each for each in self._members if each.name != name]

    def render(self, own: Mapping[str, Any], dropped: Collection[str] = ()) -> bytes:
        """As of a short body, of which only the router's fields are written."""
        kept = [each for each in self._members if each.name not in own and each.name not in dropped]
        view = memoryview(self._raw)
        pieces: list[bytes | memoryview] = [b"{", orjson.dumps(dict(own))[1:-1]]
        for each in kept:
            pieces += [b"," if pieces[-1] else b"", view[each.start : each.end]]
        return b"".join([*pieces, b"}"])


def read_body(raw: bytes) -> Body:
    """A body as it came.

    Raises:
        BadRequest: It is no JSON object.
    """
    if len(raw) < LONG:
        return Body(parse_object(raw))
    try:
        return LongBody(raw)
    except SkimError:
        return Body(parse_object(raw))  # which says what is wrong, if anything is


def parse_object(raw: bytes) -> dict[str, Any]:
    """A JSON object; raises `BadRequest` with a sentence on what it is instead."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON ({error}).") from None
    if not isinstance(value, dict):
        raise BadRequest(f"the body must be a JSON object, not {_json_type(value)}.")
    return value


def _json_type(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
