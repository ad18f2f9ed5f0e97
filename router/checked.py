"""Structures from parsed YAML or JSON, and the first mistake in them with its place.

msgspec rather than a larger library, since each process of the router would carry that one: 10 MB for two files.
"""

import re
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

T = TypeVar("T")
_TOLD = re.compile(r"(.*?)(?: - at `(?:key` in `)?\$\.?(.*)`)?", re.DOTALL)


class Wrong(ValueError):
    """A value is not taken.

    Attributes:
        words: Why, as half a sentence.
        place: Where it is, as in `trees.0.name`, with `*` for any key of a mapping; empty for the whole.
    """

    def __init__(self, words: str, place: str) -> None:
        super().__init__(words)
        self.words = words
        self.place = place


def read(kind: type[T], value: Any) -> T:
    """A `msgspec.Struct` from mappings, lists and scalars; raises `Wrong`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        told = _TOLD.fullmatch(str(error))
        assert told is not None
        words = told[1][0].lower() + told[1][1:]
        place = re.sub(r"\[(\d+)\]", r".\1", (told[2] or "").replace("[...]", ".*"))
        if words.startswith("invalid enum value"):
            words = f"expected {' or '.join(map(repr, _allowed(kind, place)))}, got {words.split()[-1]}"
        raise Wrong(words, place) from None


def _allowed(kind: type, place: str) -> tuple[str | int, ...]:
    """The values of the `Literal` at a place."""
    here: Any = inspect.type_info(kind)
    for part in place.split("."):
        if isinstance(here, inspect.StructType):
            here = next(each.type for each in here.fields if each.encode_name == part)
        else:
            here = here.value_type if isinstance(here, inspect.DictType) else here.item_type
    return tuple(here.values)
