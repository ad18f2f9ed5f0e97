"""Declares command-line flags as fields of frozen dataclasses: name, default, bounds and help text in one place."""

import argparse
import math
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _FlagSpec:
    """The flag of one field; `minimum` and `maximum` are allowed values, `exclusive_minimum` is not."""

    names: tuple[str, ...]
    help_text: str
    value_type: type | None
    multiple: bool
    choices: tuple[str, ...] | None
    metavar: str | None
    minimum: float | None
    maximum: float | None
    exclusive_minimum: float | None

    def check(self, value: Any) -> None:
        """Raise `ValueError` with one sentence when a number is out of bounds."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return
        bounds = []
        if self.minimum is not None:
            bounds.append((value >= self.minimum, f"from {self.minimum:g} on"))
        if self.exclusive_minimum is not None:
            bounds.append((value > self.exclusive_minimum, f"above {self.exclusive_minimum:g}"))
        if self.maximum is not None:
            bounds.append((value <= self.maximum, f"up to {self.maximum:g}"))
        if bounds and not (math.isfinite(value) and all(within for within, _ in bounds)):
            allowed = " and ".join(bound for _, bound in bounds)
            raise ValueError(f"{self.names[0]} {value:g} is out of bounds; give a number {allowed}.")


def flag(
    *names: str,
    default: Any,
    help_text: str,
    value_type: type | None = None,
    multiple: bool = False,
    choices: tuple[str, ...] | None = None,
    metavar: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    exclusive_minimum: float | None = None,
) -> Any:
    """A dataclass field that is a command-line flag.

    Args:
        names: Such as `--queue-size`.
        default: The value without the flag; a flag whose default is a bool takes no value and sets it to True.
        help_text: Half a sentence for `--help`.
        value_type: The type of one value; by default that of `default`.
        multiple: Whether the flag takes several values; the field is then a tuple.
        choices: The allowed values.
        metavar: What stands for the value in `--help`.
        minimum: The lowest allowed number.
        maximum: The highest allowed number.
        exclusive_minimum: Numbers must be above this one.
    """
    if value_type is None and default is not None and not isinstance(default, bool) and not multiple:
        value_type = type(default)
    spec = _FlagSpec(names, help_text, value_type, multiple, choices, metavar, minimum, maximum, exclusive_minimum)
    return field(default=default, metadata={"flag": spec})


def add_flags(parser: argparse.ArgumentParser, settings_class: type, title: str) -> None:
    """Add the flags of a settings class to the parser, as a group with this title."""
    group = parser.add_argument_group(title)
    for setting, spec in _flags(settings_class):
        destination = _destination(settings_class, setting)
        if isinstance(setting.default, bool):
            group.add_argument(*spec.names, dest=destination, action="store_true", help=spec.help_text)
            continue
        default_text = "none" if setting.default in (None, ()) else "%(default)s"
        group.add_argument(
            *spec.names,
            dest=destination,
            type=spec.value_type or str,
            nargs="*" if spec.multiple else None,
            default=setting.default,
            choices=spec.choices,
            metavar=spec.metavar or (None if spec.choices else setting.name.upper()),
            help=f"{spec.help_text} ({default_text})",
        )


def read_flags(parser: argparse.ArgumentParser, parsed: argparse.Namespace, settings_class: type[T]) -> T:
    """The settings from parsed flags; exits through `parser.error` when a value is out of bounds."""
    values: dict[str, Any] = {}
    for setting, spec in _flags(settings_class):
        value = getattr(parsed, _destination(settings_class, setting))
        values[setting.name] = tuple(value) if spec.multiple and value is not None else value
        try:
            for item in values[setting.name] if spec.multiple and value is not None else (value,):
                spec.check(item)
        except ValueError as error:
            parser.error(str(error))
    return settings_class(**values)


def _destination(settings_class: type, setting: "Field[Any]") -> str:
    """Where a parsed value is kept: two classes may have fields of one name."""
    return f"{settings_class.__name__}.{setting.name}"


def _flags(settings_class: type) -> list[tuple["Field[Any]", _FlagSpec]]:
    """The fields of a settings class that are flags."""
    return [(setting, setting.metadata["flag"]) for setting in fields(settings_class) if "flag" in setting.metadata]
