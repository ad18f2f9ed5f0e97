"""Reads a data set from Hugging Face's hub, only where that was asked for by name."""

from collections.abc import Iterator
from typing import Any

from launch.experiment.benchmarks.data.rows import Row
from launch.experiment.benchmarks.errors import DataError, MissingPackage


def read_hub(name: str, configs: tuple[str | None, ...], split: str) -> Iterator[Row]:
    """The rows of a split, one configuration after the other.

    Raises:
        MissingPackage: `datasets` is not installed.
        DataError: The hub does not answer, has no such data set, or wants a login.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingPackage(f"To download {name}, install datasets, or give a local file.") from error
    for config in configs:
        try:
            rows: Any = datasets.load_dataset(name, config, split=split)
        except Exception as error:
            said = str(error).strip().split("\n")[0] or type(error).__name__
            raise DataError(f"{name} could not be loaded from the hub ({said}): give a local file instead.") from error
        for number, values in enumerate(rows, 1):
            yield Row(dict(values), config or name.rpartition("/")[2], number)
