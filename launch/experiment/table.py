"""The arms of a cell as a table."""

from typing import Any

from rich.table import Table

COLUMNS = (
    "arm",
    "questions",
    "mean s",
    "95%",
    "median",
    "p95",
    "p99",
    "bound",
    "accuracy",
    "95%",
    "tokens",
    "aborted",
    "exits",
)


def table_of(cell: dict[str, Any]) -> Table:
    """One row for each arm."""
    gpus = "" if cell["gpus"] is None else f", {cell['gpus']} GPUs"
    table = Table(title=f"{cell['benchmark']}, {cell['concurrency']} at once{gpus}", box=None, pad_edge=False)
    for title in COLUMNS:
        table.add_column(title, justify="left" if title == "arm" else "right", no_wrap=True)
    for name, arm in cell["arms"].items():
        table.add_row(name, *_figures(arm))
    return table


def summary_sentences(cell: dict[str, Any]) -> list[str]:
    """What the table leaves to say, in sentences."""
    sentences = []
    reduction = cell["reduction"]
    if reduction is not None:
        shares = ", ".join(f"{name} {reduction[name]:.0%}" for name in ("tree", "splice", "exit"))
        sentences.append(f"exit takes {reduction['total']:.0%} less than dense: {shares} of it.")
    failed = {name: arm["failed"] for name, arm in cell["arms"].items() if arm["failed"]}
    if failed:
        told = ", ".join(f"{name} {count}" for name, count in failed.items())
        sentences.append(f"failed runs, which the same command repeats: {told}.")
    untimed = {name: arm["questions"] - arm["timed"] for name, arm in cell["arms"].items() if arm["timed"]}
    if len(untimed) < len(cell["arms"]):
        sentences.append(f"no batch of {cell['concurrency']} was full: times of these arms are those of smaller ones.")
    if any(untimed.values()):
        told = ", ".join(f"{name} {count}" for name, count in untimed.items() if count)
        sentences.append(f"runs of batches that were not full, whose times do not count: {told}.")
    missed = sum(arm["lengths_missed"] for arm in cell["arms"].values())
    if missed:
        sentences.append(f"{missed} answers were not as long as asked for: these latencies are not those of the trace.")
    return sentences


def _figures(arm: dict[str, Any]) -> list[str]:
    latency, accuracy = arm["latency_s"], arm["accuracy"]
    exits = sum(each["exits"] for each in arm["exits"].values())
    return [
        f"{arm['questions']}",
        _seconds(latency["mean"]),
        "" if latency["interval"] is None else "-".join(_seconds(end) for end in latency["interval"]),
        _seconds(latency["median"]),
        _seconds(latency["p95"]),
        _seconds(latency["p99"]),
        "" if arm["bound_s"] is None else _seconds(arm["bound_s"]),
        "" if accuracy is None else f"{accuracy['mean']:.1%}",
        "" if accuracy is None else "-".join(f"{end:.1%}" for end in accuracy["interval"]),
        f"{arm['tokens']['completion']:.0f}",
        f"{arm['tokens']['aborted']:.0f}",
        f"{exits / arm['questions']:.1f}" if exits else "",
    ]


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"
