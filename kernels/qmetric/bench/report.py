"""Prints and writes what the benchmark measured."""

from __future__ import annotations

import csv
import importlib
import platform
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import triton

from qmetric.bench.shapes import Shape
from qmetric.bench.timing import Timing


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: `implementation` is what ran, `launch_mode` is graph or eager."""

    shape: Shape
    implementation: str
    launch_mode: str
    timing: Timing


def machine(module: str = "qmetric.bench") -> str:
    """The card, the versions and the command."""
    card = torch.cuda.get_device_properties(0)
    return (
        f"{card.name}, {card.multi_processor_count} multiprocessors, {card.total_memory >> 30} GiB; "
        f"Python {platform.python_version()}, torch {torch.__version__}, triton {triton.__version__}, "
        f"CUDA {torch.version.cuda}; python -m {module} {shlex.join(sys.argv[1:])}"
    )


def floor(shape: Shape, bandwidth: float) -> float:
    """The byte floor in microseconds: each input read once, each output written once."""
    return (shape.input_bytes + shape.output_bytes) / bandwidth * 1e6


def print_shape(shape: Shape, rows: list[Row], bandwidth: float) -> None:
    """One line for a shape, ours first."""
    byte_floor = floor(shape, bandwidth)
    ours = next(row for row in rows if row.implementation == "qmetric" and row.launch_mode == "graph")
    others = "  ".join(
        f"{row.implementation}/{row.launch_mode} {row.timing.median:.1f}" for row in rows if row is not ours
    )
    print(
        f"{shape!s:24} floor {byte_floor:8.2f}  ours {ours.timing.median:8.2f} "
        f"[{ours.timing.low:.2f}-{ours.timing.high:.2f}] ({byte_floor / ours.timing.median:4.0%})  {others}",
        flush=True,
    )


def write_csv(path: Path, rows: list[Row], bandwidth: float) -> None:
    """All rows, one a line."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["batch", "answers", "m", "d", "dtype", "what", "how", "median_us", "p10_us", "p90_us", "byte_floor_us"]
        )
        for row in rows:
            shape = row.shape
            writer.writerow(
                [shape.batch, shape.answers, shape.chunks, shape.size, str(shape.dtype).removeprefix("torch.")]
                + [row.implementation, row.launch_mode]
                + [f"{value:.3f}" for value in (row.timing.median, row.timing.low, row.timing.high)]
                + [f"{floor(shape, bandwidth):.3f}"]
            )


def plot(path: Path, rows: list[Row], bandwidth: float) -> bool:
    """Time over batch size, one panel a cluster; False where matplotlib is not installed."""
    try:
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        return False
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.launch_mode == "graph":
            groups.setdefault((row.shape.answers, row.shape.chunks, row.shape.size, row.shape.dtype), []).append(row)
    groups = {key: group for key, group in groups.items() if len({row.shape.batch for row in group}) > 1}
    if not groups:
        return False
    everything = list(dict.fromkeys(row.implementation for group in groups.values() for row in group))
    colours = {what: f"C{number}" for number, what in enumerate(everything)}
    figure, panels = pyplot.subplots(
        1, len(groups), figsize=(4.5 * len(groups), 4), squeeze=False, sharey=True, layout="constrained"
    )
    for panel, group in zip(panels[0], groups.values(), strict=True):
        for what in dict.fromkeys(row.implementation for row in group):
            line = [(row.shape.batch, row.timing.median) for row in group if row.implementation == what]
            panel.loglog(*zip(*line, strict=True), marker="o", color=colours[what], label=what)
        batches = sorted({row.shape for row in group}, key=lambda shape: shape.batch)
        panel.loglog([s.batch for s in batches], [floor(s, bandwidth) for s in batches], "k--", label="byte floor")
        panel.set_title(str(batches[0]).split("x", 1)[1])
        panel.set_xlabel("clusters")
    panels[0][0].set_ylabel("microseconds a launch, in a CUDA graph")
    handles = {
        label: handle for panel in panels[0] for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    figure.savefig(path, dpi=110)
    return True
