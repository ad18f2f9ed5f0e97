"""Writes the results of an experiment from its log: `summary.json`, the table, and pictures; of several a curve."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from launch.experiment.curve import curve_of
from launch.experiment.summary import summarise
from launch.experiment.table import summary_sentences, table_of

SUMMARY = "summary.json"
CURVE = "curve.json"
PICTURES = "pictures"


def write_report(folder: Path, console: Console, *, pictures: bool) -> None:
    """Write everything again; nothing is run, and the same log gives the same files.

    Raises:
        ConfigError: There is no experiment in the folder, or its log is damaged.
    """
    summary = summarise(folder)
    _write(folder / SUMMARY, summary)
    for cell in summary["cells"]:
        console.print(table_of(cell))
        for sentence in summary_sentences(cell):
            console.print(sentence, highlight=False, markup=False)
    if not summary["cells"]:
        console.print("there are no runs yet")
    elif pictures and _can_draw(console):
        from launch.experiment.pictures import draw

        for path in draw(summary, folder / PICTURES):
            console.print(f"wrote {path}", highlight=False, markup=False)


def write_curve(folders: Sequence[Path], console: Console, *, pictures: bool) -> None:
    """Write what several experiments with different lengths say together, into the first one's folder.

    Raises:
        ConfigError: They are not one experiment with several lengths.
    """
    curve = curve_of([orjson.loads((folder / SUMMARY).read_bytes()) for folder in folders])
    _write(folders[0] / CURVE, curve)
    best = curve["best"]
    if best is not None:
        told = f"ours takes {best['less']:.1%} less than {best['against']} at {best['output_tokens']} tokens, at best."
        console.print(told, highlight=False)
    if pictures and _can_draw(console):
        from launch.experiment.pictures import draw_curve

        for path in draw_curve(curve, folders[0] / PICTURES):
            console.print(f"wrote {path}", highlight=False, markup=False)


def _write(path: Path, told: Any) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
    new.rename(path)


def _can_draw(console: Console) -> bool:
    if find_spec("matplotlib") is None:
        console.print("no pictures: matplotlib is not installed (pip install 'faster-moa[experiment]')")
        return False
    return True
