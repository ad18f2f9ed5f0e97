"""Command-line flags as fields of frozen dataclasses: name, default, bounds and words stand in one place."""

import argparse
import math
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Flag:
    """What the field's flag is; `least` and `most` are allowed values, `above` is not."""

    names: tuple[str, ...]
    words: str
    kind: type | None
    many: bool
    choices: tuple[str, ...] | None
    metavar: str | None
    least: float | None
    most: float | None
    above: float | None

    def check(self, value: Any) -> None:
        """Raise `ValueError` with one sentence on a number out of bounds."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return
        bounds = []
        if self.least is not None:
            bounds.append((value >= self.least, f"from {self.least:g} on"))
        if self.above is not None:
            bounds.append((value > self.above, f"above {self.above:g}"))
        if self.most is not None:
            bounds.append((value <= self.most, f"up to {self.most:g}"))
        if bounds and not (math.isfinite(value) and all(holds for holds, _ in bounds)):
            wanted = " and ".join(words for _, words in bounds)
            raise ValueError(f"{self.names[0]} {value:g} is out of bounds; give a number {wanted}.")


def flag(
    *names: str,
    default: Any,
    words: str,
    kind: type | None = None,
    many: bool = False,
    choices: tuple[str, ...] | None = None,
    metavar: str | None = None,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
) -> Any:
    """A dataclass field that is a flag; of the type of its default unless `kind` says another."""
    if kind is None and default is not None and not isinstance(default, bool) and not many:
        kind = type(default)
    told = _Flag(names, words, kind, many, choices, metavar, least, most, above)
    return field(default=default, metadata={"flag": told})


def add_flags(parser: argparse.ArgumentParser, settings: type, title: str) -> None:
    """Add the flags of a settings class as a group of the parser."""
    group = parser.add_argument_group(title)
    for one, told in _flags(settings):
        if isinstance(one.default, bool):
            group.add_argument(*told.names, dest=one.name, action="store_true", help=told.words)
            continue
        shown = "none" if one.default in (None, ()) else "%(default)s"
        group.add_argument(
            *told.names,
            dest=one.name,
            type=told.kind or str,
            nargs="*" if told.many else None,
            default=one.default,
            choices=told.choices,
            metavar=told.metavar,
            help=f"{told.words} ({shown})",
        )


def read_flags(parser: argparse.ArgumentParser, given: argparse.Namespace, settings: type[T]) -> T:
    """The settings that the parsed flags say; leaves through `parser.error` on a value out of bounds."""
    values: dict[str, Any] = {}
    for one, told in _flags(settings):
        value = getattr(given, one.name)
        values[one.name] = tuple(value) if told.many and value is not None else value
        try:
            for each in values[one.name] if told.many and value is not None else (value,):
                told.check(each)
        except ValueError as error:
            parser.error(str(error))
    return settings(**values)


def _flags(settings: type) -> list[tuple["Field[Any]", _Flag]]:
    return [(one, one.metadata["flag"]) for one in fields(settings) if "flag" in one.metadata]
