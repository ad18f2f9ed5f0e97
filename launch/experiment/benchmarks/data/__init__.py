"""Data sets: where they are, and their rows. `rows_of` reads a file, a folder, or the hub when asked to."""

from launch.experiment.benchmarks.data.rows import Row, RowError
from launch.experiment.benchmarks.data.sample import sample
from launch.experiment.benchmarks.data.source import Hub, Source, rows_of

__all__ = ["Hub", "Row", "RowError", "Source", "rows_of", "sample"]
