"""Data sets that tests make."""

import json
from pathlib import Path
from typing import Any

from launch.experiment.benchmarks import Benchmark, Question


def write(folder: Path, *rows: Any, name: str = "rows.jsonl") -> Path:
    """A file of JSON lines."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def only(benchmark: Benchmark, folder: Path, row: dict[str, Any]) -> Question:
    """The question of a data set with one row."""
    (question,) = benchmark.load(write(folder, row))
    return question
