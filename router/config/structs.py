"""Structures from parsed YAML or JSON, and the first mistake in them with its place.

msgspec rather than a larger library, since each process of the router would carry that one: 10 MB for two files.
"""

import re
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

T = TypeVar("T")
_PLACE = re.compile(r" - at `(?:key` in `)?\$([^`]*)`$")
_NO_SUCH = "Invalid enum value "


class InvalidValue(ValueError):
    """A value is not taken.

    Attributes:
        words: Why, as half a sentence.
        place: Where it is, as in `trees.0.name`, with `*` for any key of a mapping; empty for the whole.
    """

    def __init__(self, words: str, place: str) -> None:
        super().__init__(words)
        self.words = words
        self.place = place


def read_struct(kind: type[T], value: Any) -> T:
    """A `msgspec.Struct` from mappings, lists and scalars, numbers also as text; raises `InvalidValue`."""
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        words = str(error)
        found = _PLACE.search(words)
        place = re.sub(r"\[(\d+)\]", r".\1", found[1].replace("[...]", ".*")).lstrip(".") if found else ""
        words = words[: found.start()] if found else words
        if words.startswith(_NO_SUCH):
            allowed = " or ".join(map(repr, _allowed(kind, place)))
            words = f"expected {allowed}, got {words.removeprefix(_NO_SUCH)}"
        raise InvalidValue(words[:1].lower() + words[1:], place) from None
    except UnicodeEncodeError:
        raise InvalidValue("a text has half of a surrogate pair", "") from None


def _allowed(kind: type, place: str) -> tuple[str | int, ...]:
    """The values of the `Literal` at a place."""
    here: Any = inspect.type_info(kind)
    for part in place.split("."):
        if isinstance(here, inspect.StructType):
            here = next(each.type for each in here.fields if each.encode_name == part)
        else:
            here = here.value_type if isinstance(here, inspect.DictType) else here.item_type
    return tuple(here.values)
