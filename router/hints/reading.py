"""Reads the hints of a request's body, and checks them.

Reading passes over what is wrong, since a server may know what is not known here. Checking is for requests whose
servers do not, where a hint would be dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from router.errors import BadRequest
from router.hints.known_hints import HINTS, TIERS, Hint

MAX_KEY_BYTES = 128  # of a routing key; a longer one is ignored, as smg does

_OF_BODY = tuple(hint for hint in HINTS if not hint.is_header)
_HEADERS = {hint.name[:-1].encode(): hint for hint in HINTS if hint.is_header}
_SESSIONS = tuple(hint for hint in _OF_BODY if hint.effect == "session")
_FIELDS = frozenset(hint.path[0] for hint in _OF_BODY)
_BY_NAME = {hint.name: hint for hint in _OF_BODY}
_GROUPS = frozenset(name.rpartition(".")[0] for name in _BY_NAME) - {""}  # objects that have hints


@dataclass(frozen=True, slots=True)
class Hints:
    """What a body's hints say.

    Attributes:
        session: The routing key, or None.
        priority: How important it is by `nvext.agent_hints.priority`, higher is more; None where it is not said.
        tier: The steps of `service_tier` above the server's usual priority; 0 where none is asked for.
        expected_tokens: How many tokens the answer will have, about; 0 where that is not said.
    """

    session: bytes | None = None
    priority: int | None = None
    tier: int = 0
    expected_tokens: int = 0


NO_HINTS = Hints()
_STEPS = {"priority": 1, "flex": -1}


def read_hints(fields: Mapping[str, Any]) -> Hints:
    """What the hints among a body's top-level fields say; those with unusable values say nothing."""
    if _FIELDS.isdisjoint(fields):
        return NO_HINTS
    tier = fields.get("service_tier")
    return Hints(
        session=_session(fields),
        priority=_number(fields, _BY_NAME["nvext.agent_hints.priority"]),
        tier=_STEPS.get(tier, 0) if isinstance(tier, str) else 0,
        expected_tokens=_number(fields, _BY_NAME["nvext.agent_hints.osl"]) or 0,
    )


def may_have_hints(fields: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> bool:
    """Whether there is something for the other functions to read or check. Arguments as of `given_hints`."""
    return not (_FIELDS.isdisjoint(fields) and _HEADERS.keys().isdisjoint(headers))


def given_hints(fields: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> list[Hint]:
    """The hints that a request has, in the table's order.

    Args:
        fields: The top-level fields of its body.
        headers: Its headers by lower-case name.
    """
    of_body = [] if _FIELDS.isdisjoint(fields) else [hint for hint in _OF_BODY if _value(fields, hint) is not None]
    return of_body + [hint for name, hint in _HEADERS.items() if name in headers]


def is_usable(hint: Hint, fields: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> bool:
    """Whether a hint's value can be used: a session's is a text that is short enough. Arguments as of `given_hints`."""
    if hint.effect != "session":
        return True
    if hint.is_header:
        return 0 < len(headers.get(hint.name[:-1].encode(), b"")) <= MAX_KEY_BYTES
    return _key(_value(fields, hint)) is not None


def check_hints(fields: Mapping[str, Any]) -> None:
    """Raise `BadRequest` for a hint that is not known, is not taken, or has a wrong value; null says nothing."""
    if _FIELDS.isdisjoint(fields):
        return
    tier = fields.get("service_tier")
    if tier is not None and tier not in TIERS:
        raise BadRequest(f"`service_tier` must be one of {', '.join(TIERS)}.")
    if fields.get("nvext") is not None:
        _check_group("nvext", fields["nvext"])


def _check_group(name: str, value: Any) -> None:
    """Check an object of hints and those below it."""
    if not isinstance(value, dict):
        raise BadRequest(f"`{name}` must be an object.")
    for key, given in value.items():
        inner = f"{name}.{key}"
        if given is None:
            continue
        if inner in _GROUPS:
            _check_group(inner, given)
            continue
        hint = _BY_NAME.get(inner)
        if hint is None:
            known = sorted(each.rpartition(".")[2] for each in {*_BY_NAME, *_GROUPS} if each.rpartition(".")[0] == name)
            raise BadRequest(f"`{inner[:100]}` is not known; `{name}` may have {', '.join(known)}.")
        if hint.effect == "refused" and given is not False and given not in ([], ""):
            raise BadRequest(f"`{inner}` is not taken here: {hint.note}.")
        _check_value(hint, given)


def _check_value(hint: Hint, value: Any) -> None:
    if hint.least is not None and not _is_number(hint, value):
        raise BadRequest(f"`{hint.name}` must be a whole number from {hint.least} to {hint.most}.")
    if hint.effect == "session" and _key(value) is None:
        raise BadRequest(f"`{hint.name}` must be a text of 1 to {MAX_KEY_BYTES} bytes.")


def _value(fields: Mapping[str, Any], hint: Hint) -> Any:
    """A hint's value in a body; None where it has none."""
    value: Any = fields
    for name in hint.path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _is_number(hint: Hint, value: Any) -> bool:
    assert hint.least is not None
    assert hint.most is not None
    return type(value) is int and hint.least <= value <= hint.most


def _number(fields: Mapping[str, Any], hint: Hint) -> int | None:
    value = _value(fields, hint)
    return value if _is_number(hint, value) else None


def _session(fields: Mapping[str, Any]) -> bytes | None:
    for hint in _SESSIONS:
        if (key := _key(_value(fields, hint))) is not None:
            return key
    return None


def _key(value: Any) -> bytes | None:
    """A text as a routing key; None for another value, an empty text or one that is too long."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_KEY_BYTES:
        return None
    key = value.encode("utf-8", "surrogatepass")
    return key if len(key) <= MAX_KEY_BYTES else None
