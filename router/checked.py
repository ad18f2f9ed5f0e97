"""Dataclasses from parsed YAML or JSON: each field says what it takes, and the first mistake is told with its place.

A library for this would be as large in each process of the router as all that the router does itself.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field, fields
from typing import Any, TypeVar

T = TypeVar("T")
Check = Callable[[Any], Any]  # the value as it is taken; raises `Wrong`


class Wrong(ValueError):
    """A value is not taken.

    Attributes:
        words: Why, as half a sentence.
        place: Where it is: keys and numbers of list items.
    """

    def __init__(self, words: str, *place: str | int) -> None:
        super().__init__(words)
        self.words = words
        self.place = place


def checked(check: Check, **default: Any) -> Any:
    """A dataclass field that takes what `check` does; `default` and `default_factory` as for any field."""
    return field(metadata={"check": check}, **default)


def read(kind: type[T], value: Any) -> T:
    """An instance from a mapping with one of its fields under each key; raises `Wrong`."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, dict):
        raise Wrong(f"input should be a valid dictionary or instance of {kind.__name__}")
    known: dict[str, Field[Any]] = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    for name, each in known.items():
        if name in value:
            found[name] = _at(name, each.metadata["check"], value[name])
        elif each.default is MISSING and each.default_factory is MISSING:
            raise Wrong("field required", name)
    for key in value:
        if key not in known:
            raise Wrong(
                "extra inputs are not permitted" if isinstance(key, str) else "keys should be strings", f"{key}"
            )
    return kind(**found)


def _at(place: str | int, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except Wrong as wrong:
        raise Wrong(wrong.words, place, *wrong.place) from None


def one(kind: type[T], then: Callable[[T], None] = lambda _: None) -> Check:
    """A dataclass; `then` looks at the whole of it, and raises `Wrong`."""

    def check(value: Any) -> T:
        made = read(kind, value)
        then(made)
        return made

    return check


def text(*, most: int | None = None, pattern: str = "") -> Check:
    """Text."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise Wrong("input should be a valid string")
        if most is not None and len(value) > most:
            raise Wrong(f"string should have at most {most} characters")
        if pattern and not re.fullmatch(pattern, value):
            raise Wrong(f"string should match pattern '{pattern}'")
        return value

    return check


def whole(*, least: int, most: int | None = None) -> Check:
    """An integer, or text that is one."""

    def check(value: Any) -> int:
        if isinstance(value, float) and not value.is_integer():
            raise Wrong("input should be a valid integer, got a number with a fractional part")
        found = int(_parsed(value, int, "an integer"))
        _within(found, least, most)
        return found

    return check


def real(*, least: float | None = None, most: float | None = None, above: float | None = None) -> Check:
    """A finite number, or text that is one."""

    def check(value: Any) -> float:
        found = float(_parsed(value, float, "a number"))
        if not math.isfinite(found):
            raise Wrong("input should be a finite number")
        _within(found, least, most, above)
        return found

    return check


def _parsed(value: Any, kind: type[int] | type[float], words: str) -> int | float:
    wrong = f"input should be a valid {words.split()[1]}"
    if isinstance(value, str) and value.isascii():
        try:
            return kind(value.removesuffix(".0"))
        except ValueError:
            raise Wrong(f"{wrong}, unable to parse string as {words}") from None
    if not isinstance(value, int | float):
        raise Wrong(wrong)
    try:
        return kind(value)
    except OverflowError:
        raise Wrong(wrong) from None


def _within(number: float, least: float | None, most: float | None, above: float | None = None) -> None:
    if least is not None and number < least:
        raise Wrong(f"input should be greater than or equal to {least:g}")
    if above is not None and number <= above:
        raise Wrong(f"input should be greater than {above:g}")
    if most is not None and number > most:
        raise Wrong(f"input should be less than or equal to {most:g}")


def one_of(*allowed: str) -> Check:
    """One of these."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            *most, last = map(repr, allowed)
            raise Wrong(f"input should be {', '.join(most)} or {last}")
        return value

    return check


def maybe(check: Check) -> Check:
    """None too."""
    return lambda value: None if value is None else check(value)


def many(check: Check, *, least: int = 0) -> Check:
    """A list of what `check` takes, as a tuple."""

    def check_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise Wrong("input should be a valid tuple")
        found = tuple(_at(place, check, each) for place, each in enumerate(value))
        if len(found) < least:
            raise Wrong(
                f"tuple should have at least {least} item{'s' * (least != 1)} after validation, not {len(found)}"
            )
        return found

    return check_all


def named(check: Check) -> Check:
    """A mapping from names to what `check` takes."""

    def check_all(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise Wrong("input should be a valid dictionary")
        for key in value:
            if not isinstance(key, str):
                raise Wrong("input should be a valid string", f"{key}", "[key]")
        return {key: _at(key, check, each) for key, each in value.items()}

    return check_all


def anything(value: Any) -> Any:
    """Whatever it is."""
    return value
