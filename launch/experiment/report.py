"""Writes the results of an experiment from its log: `summary.json`, the table, and pictures."""

from importlib.util import find_spec
from pathlib import Path

import orjson
from rich.console import Console

from launch.experiment.summary import summarise
from launch.experiment.table import summary_sentences, table_of

SUMMARY = "summary.json"
PICTURES = "pictures"


def write_report(folder: Path, console: Console, *, pictures: bool) -> None:
    """Write everything again; nothing is run, and the same log gives the same files.

    Raises:
        ConfigError: There is no experiment in the folder, or its log is damaged.
    """
    summary = summarise(folder)
    new = folder / f"{SUMMARY}.new"
    new.write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n")
    new.rename(folder / SUMMARY)
    for cell in summary["cells"]:
        console.print(table_of(cell))
        for sentence in summary_sentences(cell):
            console.print(sentence, highlight=False, markup=False)
    if not summary["cells"]:
        console.print("there are no runs yet")
    elif pictures and find_spec("matplotlib") is None:
        console.print("no pictures: matplotlib is not installed (pip install 'faster-moa[experiment]')")
    elif pictures:
        from launch.experiment.pictures import draw

        for path in draw(summary, folder / PICTURES):
            console.print(f"wrote {path}", highlight=False, markup=False)
