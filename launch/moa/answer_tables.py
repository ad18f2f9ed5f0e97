"""Prints the answer of a tree and what it cost."""

from typing import Any

from rich.console import Console
from rich.table import Table

from launch.machine.units import GIB


def print_answer(
    console: Console, answer: dict[str, Any], servers: list[str], *, seconds: float, peak_bytes: int
) -> None:
    """Print the answer, one row for each agent, the servers, the run's cost, and the launch's time and peak memory.

    Args:
        console: Where to print.
        answer: The chat completion of a tree.
        servers: Their names.
        seconds: Time of the whole command.
        peak_bytes: Peak host memory of all processes.
    """
    moa = answer["moa"]
    message = answer["choices"][0]["message"]
    console.rule("answer")
    if message.get("output_ids"):
        console.print(f"{len(message['output_ids'])} token ids: {message['output_ids'][:16]} ...", highlight=False)
    else:
        console.print(message["content"].strip(), highlight=False, markup=False)
    console.rule("agents")
    table = Table(box=None, pad_edge=False)
    for title in ("agent", "model", "prompt tokens", "output tokens", "start s", "first token s", "end s"):
        table.add_column(title, justify="left" if title in {"agent", "model"} else "right")
    for agent in moa["agents"]:
        times = (agent["start"], agent["first_token"], agent["end"])
        counts = (agent["prompt_tokens"], agent["completion_tokens"])
        cells = ["" if time is None else f"{time:.2f}" for time in times]
        table.add_row(agent["agent"], agent["model"], *map(str, counts), *cells)
    console.print(table)
    reasons = {agent["agent"]: reason for agent in moa["agents"] if (reason := agent["speculation"].get("reason"))}
    if reasons:
        told = ", ".join(f"{name} ({reason})" for name, reason in reasons.items())
        console.print(f"not prefilled ahead: {told}", highlight=False)
    console.rule()
    console.print(f"servers: {', '.join(servers)}", highlight=False)
    usage = answer["usage"]
    console.print(
        f"the run took {moa['seconds']:.1f} s, {usage['prompt_tokens']} prompt and {usage['completion_tokens']} "
        f"output tokens; the whole command {seconds:.1f} s; "
        f"peak memory {peak_bytes / GIB:.2f} GiB",
        highlight=False,
    )
