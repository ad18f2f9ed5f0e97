"""The results as tables and as JSON."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from router.bench.cases import Samples
from router.bench.sample import Sample


@dataclass(frozen=True)
class Memory:
    """Memory of a router's processes, MB: when it was ready, after its cases, and at its peak."""

    start: float
    after: float
    peak: float


@dataclass(frozen=True)
class Row:
    """One target in one case: medians of its rounds.

    Attributes:
        p50: Median latency, microseconds; for a router, what it adds to the direct one.
        p99: The 99th percentile, likewise.
        rate: Requests per second.
        tokens: Tokens per second.
        cpu: CPU time of the router per request or token, microseconds; None for the fake servers.
        errors: Failed requests of all rounds.
        gap: The 99th percentile of the time between tokens of a stream, microseconds, as it came; None without streams.
    """

    p50: float
    p99: float
    rate: float
    tokens: float
    cpu: float | None
    errors: int
    gap: float | None


def rows(samples: Samples) -> dict[str, Row]:
    """Each target's row; the first target is the direct one."""
    (name, direct), *routers = samples.items()
    zero = [Sample(0.0, 0.0, 0, 1.0)] * len(direct)
    return {name: _row(direct, zero), **{name: _row(each, direct) for name, each in routers}}


def _row(samples: Sequence[Sample], direct: Sequence[Sample]) -> Row:
    pairs = list(zip(samples, direct, strict=True))
    costs = [sample.cpu for sample in samples if sample.cpu is not None]
    gaps = [sample.gap for sample in samples if sample.gap is not None]
    return Row(
        p50=median(routed.p50 - base.p50 for routed, base in pairs),
        p99=median(routed.p99 - base.p99 for routed, base in pairs),
        rate=median(sample.rate for sample in samples),
        tokens=median(sample.token_rate for sample in samples),
        cpu=median(costs) if costs else None,
        errors=sum(sample.errors for sample in samples),
        gap=median(gaps) if gaps else None,
    )


def table(cases: Mapping[str, Samples]) -> Table:
    """All cases, as medians of their rounds."""
    result = _table(
        "microseconds: direct, what a router adds (+), and its CPU time a request or token; medians",
        ("case", "target"),
        ("p50", "p99", "requests/s", "tokens/s", "gap p99", "CPU", "errors"),
    )
    for case, samples in cases.items():
        result.add_section()
        for target, row in rows(samples).items():
            sign = "" if row.cpu is None else "+"
            # The duration of a stream is set by the request; only its rate is a result.
            requests = (sign + _number(row.p50), sign + _number(row.p99), _number(row.rate))
            result.add_row(
                case,
                target,
                *(("", "", "") if row.tokens else requests),
                _number(row.tokens) if row.tokens else "",
                "" if row.gap is None else _number(row.gap),
                "" if row.cpu is None else _number(row.cpu),
                str(row.errors or ""),
            )
    return result


def memory_table(memory: Mapping[str, Mapping[str, Memory]]) -> Table:
    """Memory by router and load."""
    result = _table("memory of the router's processes, MB", ("load", "router"), ("start", "after", "peak"))
    for load, routers in memory.items():
        for router, used in routers.items():
            result.add_row(load, router, *(f"{value:.0f}" for value in (used.start, used.after, used.peak)))
    return result


def _table(title: str, names: Sequence[str], figures: Sequence[str]) -> Table:
    result = Table(title=title, title_justify="left", box=box.SIMPLE)
    for name in names:
        result.add_column(name, no_wrap=True)
    for name in figures:
        result.add_column(name, no_wrap=True, justify="right")
    return result


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"


def environment() -> dict[str, Any]:
    """The machine and the versions of the measurement."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("uvloop", "httptools", "orjson", "uvicorn")},
    }


def as_json(
    command: Sequence[str],
    versions: Mapping[str, Any],
    cases: Mapping[str, Samples],
    memory: Mapping[str, Mapping[str, Memory]],
) -> dict[str, Any]:
    """All results, with each round's samples."""
    return {
        "command": list(command),
        "surroundings": dict(versions),
        "cases": {
            case: {
                target: {"median": asdict(row), "rounds": [asdict(sample) for sample in samples[target]]}
                for target, row in rows(samples).items()
            }
            for case, samples in cases.items()
        },
        "memory_mb": {load: {name: asdict(used) for name, used in routers.items()} for load, routers in memory.items()},
    }
