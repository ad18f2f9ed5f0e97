"""How long ordinary requests spent in each stage on the prefill server, read from its log."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from router.bench.sample import percentile

PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
Durations = dict[str, dict[str, dict[str, float]]]  # kind of request -> stage -> percentile -> milliseconds


def prefill_durations(log: Path, run: str, kinds: Iterable[str]) -> Durations:
    """Percentiles of the durations that a prefill server logged for a run's requests of each kind.

    Stages have the log's names: `bootstrap_duration` is the handshake, `queue_duration` the wait after it,
    `forward_duration` prefill and transfer.
    """
    line = re.compile(rf"ReqTimeStats\(rid={run}-(\w+)-\d+-\d+-.*?\): (.*)")
    values: dict[str, dict[str, list[float]]] = {kind: defaultdict(list) for kind in kinds}
    for match in line.finditer(log.read_text(errors="replace")):
        for stage, milliseconds in re.findall(r"(\w+_duration)=([\d.]+)ms", match[2]):
            if match[1] in values:
                values[match[1]][stage].append(float(milliseconds))
    return {
        kind: {stage: _percentiles(sorted(each)) for stage, each in stages.items()} for kind, stages in values.items()
    }


def _percentiles(ordered: list[float]) -> dict[str, float]:
    return {name: percentile(ordered, share) for name, share in PERCENTILES.items()}


def durations_table(durations: Durations) -> str:
    """The durations as text."""
    columns = " ".join(f"{share:>8}" for share in PERCENTILES)
    lines = [f"{'of ordinary requests on the prefill server, ms':56} {columns}"]
    for kind, stages in durations.items():
        for stage, values in stages.items():
            lines.append(f"{kind + ', ' + stage:56} " + " ".join(f"{value:8.1f}" for value in values.values()))
    return "\n".join(lines)
