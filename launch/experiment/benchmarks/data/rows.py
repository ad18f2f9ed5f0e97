"""Reads the rows of a file: JSON, JSON lines, CSV and Parquet, each of them also compressed by gzip."""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from launch.experiment.benchmarks.errors import DataError, MissingPackage

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_LISTS = ("examples", "data", "rows")  # keys under which a JSON file may have its rows


class RowError(Exception):
    """A row has not the published form; the message says what is wrong, without the place."""


@dataclass(frozen=True)
class Row:
    """One row of a data set.

    Attributes:
        values: What the row says, by column.
        file: The file's name without its suffixes, or the hub's configuration: "word_sorting".
        number: Its place in the file, from 1.
    """

    values: dict[str, Any]
    file: str
    number: int

    def text(self, *columns: str) -> str:
        """The text of the first of the columns that is there, without white space around it; `RowError` when empty."""
        found = self.get(*columns)
        if not isinstance(found, str) or not found.strip():
            raise RowError(f"has no text under {_names(columns)}")
        return found.strip()

    def get(self, *columns: str) -> Any:
        """The first of the columns that is there; None when none is."""
        return next((self.values[each] for each in columns if self.values.get(each) is not None), None)

    def fail(self, problem: str) -> NoReturn:
        """Raise a `RowError`."""
        raise RowError(problem)


def _names(columns: tuple[str, ...]) -> str:
    return " or ".join(f'"{each}"' for each in columns)


def read_file(path: Path, csv_columns: tuple[str, ...] = ()) -> Iterator[Row]:
    """The rows of a file.

    Args:
        path: The file.
        csv_columns: The columns of CSV files that have no line of headings.

    Raises:
        DataError: It cannot be read, or is not what its name says.
    """
    stem, suffix = _split(path)
    if suffix not in SUFFIXES:
        raise DataError(f"{path} is none of {', '.join(SUFFIXES)} (each may be compressed: .gz).")
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        if suffix == ".parquet":
            yield from _number(_parquet(content, path), stem)
            return
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    if suffix == ".jsonl":
        yield from _json_lines(text, path, stem)
    elif suffix == ".json":
        yield from _number(_json(text, path), stem)
    else:
        yield from _number(_csv(text, csv_columns), stem)


def _split(path: Path) -> tuple[str, str]:
    name = path.name.removesuffix(".gz")
    return Path(name).stem, Path(name).suffix.lower()


def _number(rows: Iterator[Any], stem: str) -> Iterator[Row]:
    for number, values in enumerate(rows, 1):
        if not isinstance(values, dict):
            raise DataError(f"Row {number} of {stem} is no object with columns.")
        yield Row(values, stem, number)


def _json_lines(text: str, path: Path, stem: str) -> Iterator[Row]:
    """One object a line; not `splitlines`, which also cuts at characters that JSON has inside strings."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                values = json.loads(line)
            except ValueError as error:
                raise DataError(f"Line {number} of {path} is not JSON: {error}.") from error
            if not isinstance(values, dict):
                raise DataError(f"Line {number} of {path} is no object with columns.")
            yield Row(values, stem, number)


def _json(text: str, path: Path) -> Iterator[Any]:
    try:
        whole = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}.") from error
    if isinstance(whole, dict):
        whole = next((whole[each] for each in _LISTS if isinstance(whole.get(each), list)), None)
    if not isinstance(whole, list):
        raise DataError(f"{path} is neither a list of rows nor an object with one under {_names(_LISTS)}.")
    return iter(whole)


def _csv(text: str, columns: tuple[str, ...]) -> Iterator[Any]:
    return csv.DictReader(io.StringIO(text, newline=""), fieldnames=columns or None)


def _parquet(content: bytes, path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingPackage(f"{path} needs pyarrow: pip install pyarrow, or give a .jsonl file.") from error
    try:
        table = parquet.read_table(io.BytesIO(content))
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is not Parquet: {error}.") from error
    return iter(table.to_pylist())
