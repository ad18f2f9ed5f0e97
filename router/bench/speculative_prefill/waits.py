"""Where ordinary requests waited, from the prefill server's own log."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from router.bench.sample import percentile

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
Waits = dict[str, dict[str, dict[str, float]]]  # way -> wait -> share -> milliseconds


def waits(log: Path, run: str, ways: Iterable[str]) -> Waits:
    """What a prefill server logged of a run's ordinary requests in each way, by the log's own names.

    `bootstrap_duration` is the handshake, `queue_duration` what came before a request's turn, `forward_duration` its
    prefill and transfer.
    """
    line = re.compile(rf"ReqTimeStats\(rid={run}-(\w+)-\d+-\d+-.*?\): (.*)")
    told: dict[str, dict[str, list[float]]] = {way: defaultdict(list) for way in ways}
    for found in line.finditer(log.read_text(errors="replace")):
        for name, milliseconds in re.findall(r"(\w+_duration)=([\d.]+)ms", found[2]):
            if found[1] in told:
                told[found[1]][name].append(float(milliseconds))
    return {way: {name: _shares(sorted(values)) for name, values in each.items()} for way, each in told.items()}


def _shares(ordered: list[float]) -> dict[str, float]:
    return {name: percentile(ordered, share) for name, share in SHARES.items()}


def waits_table(told: Waits) -> str:
    """The same as text."""
    columns = " ".join(f"{share:>8}" for share in SHARES)
    lines = [f"{'of ordinary requests on the prefill server, ms':56} {columns}"]
    for way, each in told.items():
        for name, values in each.items():
            lines.append(f"{way + ', ' + name:56} " + " ".join(f"{value:8.1f}" for value in values.values()))
    return "\n".join(lines)
