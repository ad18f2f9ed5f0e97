"""Where a data set is: a file, a folder that has it under one of its names, a package, or the hub."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launch.experiment.benchmarks.data.hub import read_hub
from launch.experiment.benchmarks.data.rows import SUFFIXES, Row, read_file
from launch.experiment.benchmarks.errors import DataError


@dataclass(frozen=True)
class Hub:
    """A data set on Hugging Face's hub.

    Attributes:
        name: "owner/name".
        configs: Its configurations, all of which are read.
        split: The split that is asked.
    """

    name: str
    configs: tuple[str | None, ...] = (None,)
    split: str = "test"


@dataclass(frozen=True)
class Source:
    """Where a benchmark's data set is found.

    Attributes:
        title: The benchmark's title, for sentences.
        files: Patterns of file names in a folder, the first that matches wins; all its matches are read.
        published: What its authors publish, for the sentence that asks for it.
        hub: On the hub.
        packaged: A package and a file in it that has the data set.
        csv_columns: The columns of CSV files that have no line of headings.
    """

    title: str
    files: tuple[str, ...]
    published: str
    hub: Hub
    packaged: tuple[str, str] | None = None
    csv_columns: tuple[str, ...] = ()


def rows_of(source: Source, place: str | Path | None) -> Iterator[Row]:
    """The rows of a data set.

    Args:
        source: Where it may be.
        place: A file; a folder; "hub" for its own place on the hub, "hub:OWNER/NAME" or "hub:OWNER/NAME:CONFIG" for
            another; None for the package that has it. Nothing is downloaded unless "hub" says so.

    Raises:
        DataError: It is not there; the sentence says which file to give.
    """
    if place is None:
        yield from read_file(_packaged(source), source.csv_columns)
    elif isinstance(place, str) and (place == "hub" or place.startswith("hub:")):
        yield from _from_hub(source.hub, place)
    else:
        for path in files_at(source, Path(place)):
            yield from read_file(path, source.csv_columns)


def files_at(source: Source, path: Path) -> list[Path]:
    """The files that a path stands for: itself, or those of a folder that the first matching pattern names."""
    if not path.exists():
        raise DataError(f"{path} does not exist: {_give(source)}.")
    if path.is_file():
        return [path]
    for pattern in source.files:
        if found := sorted(each for each in path.glob(pattern) if each.is_file()):
            return found
    raise DataError(f"The folder {path} has none of {', '.join(source.files)}: {_give(source)}.")


def _packaged(source: Source) -> Path:
    if source.packaged is None:
        raise DataError(f"{source.title} is not on this machine: {_give(source)}.")
    package, file = source.packaged
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(
            f"{source.title} is not on this machine: pip install {package.replace('_', '-')}, or {_give(source)}."
        )
    return Path(spec.origin).parent / file


def _give(source: Source) -> str:
    return f'give {source.published} ({", ".join(SUFFIXES)}), or "hub" to download {source.hub.name}'


def _from_hub(hub: Hub, place: str) -> Iterator[Row]:
    _, _, named = place.partition(":")
    name, _, config = named.partition(":")
    configs = (config,) if config else (hub.configs if not name or name == hub.name else (None,))
    yield from read_hub(name or hub.name, configs, hub.split)
