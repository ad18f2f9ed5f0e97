"""Converts parsed YAML or JSON to `msgspec.Struct`s, and names the first mistake with its path.

msgspec rather than a larger library: every process of the router would carry that one, 10 MB for two files.
"""

import re
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

T = TypeVar("T")
_PATH_IN_MESSAGE = re.compile(r" - at `(?:key` in `)?\$([^`]*)`$")
_INVALID_ENUM_VALUE = "Invalid enum value "


class InvalidValue(ValueError):
    """A value of the wrong type, or out of its bounds.

    Attributes:
        reason: What is wrong, as half a sentence.
        path: Where, as in `trees.0.name`, with `*` for any key of a mapping; empty for the whole value.
    """

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path


def read_struct(struct_type: type[T], value: Any) -> T:
    """A `msgspec.Struct` from mappings, lists and scalars; numbers may be strings. Raises `InvalidValue`."""
    try:
        return msgspec.convert(value, struct_type, strict=False)
    except msgspec.ValidationError as error:
        reason = " ".join(str(error).split())
        match = _PATH_IN_MESSAGE.search(reason)
        path = re.sub(r"\[(\d+)\]", r".\1", match[1].replace("[...]", ".*")).lstrip(".") if match else ""
        reason = reason[: match.start()] if match else reason
        if reason.startswith(_INVALID_ENUM_VALUE):
            allowed = " or ".join(map(repr, _literal_values(struct_type, path)))
            reason = f"expected {allowed}, got {reason.removeprefix(_INVALID_ENUM_VALUE)}"
        raise InvalidValue(reason[:1].lower() + reason[1:], path) from None
    except UnicodeEncodeError:
        raise InvalidValue("a text has half of a surrogate pair", "") from None


def _literal_values(struct_type: type, path: str) -> tuple[str | int, ...]:
    """The values of the `Literal` at a path."""
    info: Any = inspect.type_info(struct_type)
    for part in path.split("."):
        if isinstance(info, inspect.StructType):
            info = next(member.type for member in info.fields if member.encode_name == part)
        else:
            info = info.value_type if isinstance(info, inspect.DictType) else info.item_type
    return tuple(info.values)
