"""The pictures of a summary, as PNG and SVG: latency by arm, what it consists of, latency against accuracy."""

import re
from collections.abc import Callable, Sequence
from itertools import cycle, groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from launch.experiment.composition import PARTS

Cell = dict[str, Any]

# Colours that people with each kind of colour blindness tell apart (Okabe and Ito).
PART_COLOURS = {
    "router": "#bbbbbb",
    "waiting": "#000000",
    "judge": "#cc79a7",
    "tokenize": "#f0e442",
    "handshake": "#0072b2",
    "queue": "#d55e00",
    "prefill": "#e69f00",
    "transfer": "#009e73",
    "decode": "#56b4e9",
}
MARKERS = "osD^v<>Ph*X"
BAR, BOUND = "#0072b2", "#d55e00"
STYLE = {"svg.hashsalt": "faster-moa", "font.size": 11, "axes.spines.top": False, "axes.spines.right": False}


def draw(summary: dict[str, Any], folder: Path) -> list[Path]:
    """Draw each benchmark and each cell; return the files, which the same summary gives again byte for byte."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, Callable[[Cell], Figure | None]] = {"composition": composition_bars, "accuracy": accuracy_plane}
    written = []
    with mpl.rc_context(STYLE):
        for benchmark, group in groupby(summary["cells"], key=lambda cell: str(cell["benchmark"])):
            cells = list(group)
            written += _save(latency_bars(cells), folder, f"{_file_name(benchmark)}-latency")
            for cell in cells:
                for kind, picture in kinds.items():
                    figure = picture(cell)
                    if figure is not None:
                        written += _save(figure, folder, f"{_file_name(benchmark)}-{cell['concurrency']}-{kind}")
    return written


def _file_name(benchmark: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", benchmark)


def draw_curve(curve: dict[str, Any], folder: Path) -> list[Path]:
    """Draw the paper's figure 4(iii): mean latency over the length of outputs, a line for each arm."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 5))
        axes = figure.add_subplot()
        lengths = curve["output_tokens"]
        for marker, (name, points) in zip(cycle(MARKERS), curve["arms"].items(), strict=False):
            line = axes.plot(lengths, [point["mean"] for point in points], marker=marker, label=name)
            lows, highs = zip(*(point["interval"] or [point["mean"]] * 2 for point in points), strict=True)
            axes.fill_between(lengths, lows, highs, color=line[0].get_color(), alpha=0.2)
        axes.set_xlabel("tokens of each output")
        axes.set_ylabel("seconds (mean, 95% interval)")
        axes.set_ylim(bottom=0)
        gpus = "" if not curve["gpus"] else f", {curve['gpus']} GPUs"
        axes.set_title(f"second layer alone, {curve['concurrency']} at once{gpus}", loc="left")
        best = curve["best"]
        if best is not None:
            told = f"{best['less']:.1%} less than {best['against']}"
            axes.axvline(best["output_tokens"], color="#888888", linestyle=":")
            place = best["output_tokens"], axes.get_ylim()[1] * 0.95
            axes.annotate(told, place, xytext=(5, 0), textcoords="offset points")
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return _save(figure, folder, "curve")


def _save(figure: Figure, folder: Path, stem: str) -> list[Path]:
    written = []
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        path = folder / f"{stem}.{suffix}"
        figure.savefig(path, dpi=150, bbox_inches="tight", metadata=metadata)
        written.append(path)
    return written


def latency_bars(cells: Sequence[Cell]) -> Figure:
    """The paper's figure 4(ii) of a benchmark: a panel for each number of questions at once."""
    figure = Figure(figsize=(sum(max(5.0, 1.35 * len(cell["arms"]) + 1) for cell in cells), 5))
    for place, cell in enumerate(cells, 1):
        _latency_panel(figure.add_subplot(1, len(cells), place), cell)
    figure.axes[0].set_ylabel("seconds from question to answer (mean, 95% interval)")
    figure.tight_layout()
    return figure


def _latency_panel(axes: Any, cell: Cell) -> None:
    """Mean latency by arm with its interval, less than the first arm, and the bound."""
    arms = cell["arms"]
    axes.set_xticks(range(len(arms)), list(arms))
    axes.set_title(_title(cell), loc="left")
    means = [arm["latency_s"]["mean"] for arm in arms.values()]
    lows, highs = zip(*(_whiskers(arm["latency_s"]) for arm in arms.values()), strict=True)
    axes.bar(range(len(arms)), means, width=0.62, color=BAR)
    if any(lows) or any(highs):
        axes.errorbar(range(len(arms)), means, yerr=[lows, highs], fmt="none", ecolor="black", capsize=4)
    labelled = False
    for place, (mean, high, arm) in enumerate(zip(means, highs, arms.values(), strict=True)):
        less = 1 - mean / means[0]
        change = "" if place == 0 else f"\n{less:.0%} less" if less >= 0 else f"\n{-less:.0%} more"
        axes.annotate(
            f"{mean:.3g} s{change}",
            (place, mean + high),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=10,
        )
        if arm["bound_s"] is not None:
            label = None if labelled else "bound: same lengths and speeds, no queue or prefill"
            axes.hlines(arm["bound_s"], place - 0.36, place + 0.36, colors=BOUND, linewidth=3, label=label)
            labelled = True
    axes.set_ylim(0, 1.22 * max(mean + high for mean, high in zip(means, highs, strict=True)))
    if labelled:
        axes.legend(frameon=False, loc="upper right")


def _whiskers(told: dict[str, Any]) -> tuple[float, float]:
    """How far a mean's interval reaches down and up; not at all where it has none."""
    low, high = told["interval"] or (told["mean"], told["mean"])
    return max(0.0, told["mean"] - low), max(0.0, high - told["mean"])


def composition_bars(cell: Cell) -> Figure:
    """Of each arm, what its critical path consists of; decode, which is most of it, is left out on the right."""
    arms = cell["arms"]
    figure = Figure(figsize=(2 * max(4.0, 0.95 * len(arms) + 1), 5))
    for place, (parts, title) in enumerate(((PARTS, "all of it"), (PARTS[:-1], "without decode"))):
        axes = figure.add_subplot(1, 2, place + 1)
        floor = [0.0] * len(arms)
        for part in parts:
            seconds = [arm["critical_path_s"][part] for arm in arms.values()]
            share = sum(seconds) / max(1e-12, sum(arm["latency_s"]["mean"] for arm in arms.values()))
            label = f"{part} ({share:.1%})" if parts == PARTS else None
            axes.bar(range(len(arms)), seconds, width=0.62, bottom=floor, color=PART_COLOURS[part], label=label)
            floor = [below + each for below, each in zip(floor, seconds, strict=True)]
        axes.set_xticks(range(len(arms)), list(arms))
        axes.set_title(title, loc="left")
        if place == 0:
            axes.set_ylabel("seconds of the critical path (mean)")
            handles, labels = axes.get_legend_handles_labels()
    figure.suptitle(_title(cell), x=0.125, ha="left")
    figure.legend(handles[::-1], labels[::-1], frameon=False, loc="center left", bbox_to_anchor=(0.92, 0.5))
    return figure


def accuracy_plane(cell: Cell) -> Figure | None:
    """Accuracy over latency, a point with both intervals for each arm; None where no arm has an accuracy."""
    arms = {name: arm for name, arm in cell["arms"].items() if arm["accuracy"] is not None}
    if not arms:
        return None
    figure = Figure(figsize=(7.5, 5))
    axes = figure.add_subplot()
    for marker, (name, arm) in zip(cycle(MARKERS), arms.items(), strict=False):
        latency, accuracy = arm["latency_s"], arm["accuracy"]
        x, y = latency["mean"], 100 * accuracy["mean"]
        across = [[end] for end in _whiskers(latency)]
        up = [[100 * end] for end in _whiskers(accuracy)]
        told = f"{name}: {y:.1f}% in {x:.3g} s"
        axes.errorbar(x, y, xerr=across, yerr=up, fmt=marker, capsize=3, markersize=9, label=told)
    axes.set_xlabel("seconds from question to answer (mean; left is better)")
    axes.set_ylabel("right answers in % (up is better)")
    axes.set_xlim(left=0)
    axes.set_title(_title(cell), loc="left")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _title(cell: Cell) -> str:
    questions = sorted({arm["timed"] or arm["questions"] for arm in cell["arms"].values()})
    told = f"{questions[0]}" if len(questions) == 1 else f"{questions[0]} to {questions[-1]}"
    gpus = "" if not cell["gpus"] else f", {cell['gpus']} GPUs"
    at_once = "one at a time" if cell["concurrency"] == 1 else f"{cell['concurrency']} at once"
    return f"{cell['benchmark']}: {told} questions, {at_once}{gpus}"
