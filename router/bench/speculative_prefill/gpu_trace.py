"""Finds the forward passes of a server in the GPU trace of a torch profiler."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

MIN_PAUSE = 2_000  # microseconds without a kernel between two forward passes
KERNEL_KINDS = {  # kind -> parts of names. The first match counts: merging kernels have "attention" in their names too
    "merging of attention": ("merge", "variablelength"),
    "copies": ("memcpy", "memset", "copy"),
    "attention": ("prefillwith", "decodewith", "attention", "fmha", "flash"),
    "matrix products": ("gemm", "nvjet", "cutlass", "cublas", "splitk"),
}


@dataclass
class Pass:
    """One forward pass: what the GPU did between two pauses. Times are microseconds.

    Attributes:
        span: From the start of the first kernel to the end of the last.
        busy: Sum of all kernels and copies.
        kernels: Number of kernels and copies.
        launches: Kernel launches.
        graphs: CUDA graph launches.
        kinds: Time by kind of kernel.
        longest: Name, total time and number of the kernels that took longest.
    """

    span: float = 0.0
    busy: float = 0.0
    kernels: int = 0
    launches: int = 0
    graphs: int = 0
    kinds: dict[str, float] = field(default_factory=dict)
    longest: list[tuple[str, float, int]] = field(default_factory=list)


def kind_of(kernel: str) -> str:
    """The kind that a kernel counts as."""
    name = kernel.lower()
    return next((kind for kind, parts in KERNEL_KINDS.items() if any(part in name for part in parts)), "the rest")


def passes(events: Iterable[dict[str, Any]]) -> list[Pass]:
    """The forward passes in a torch trace's `traceEvents`, in order; a pause of `MIN_PAUSE` ends each."""
    events = list(events)
    timed = [event for event in events if event.get("ph") == "X" and "dur" in event]
    on_gpu = sorted(
        (e for e in timed if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")), key=lambda e: float(e["ts"])
    )
    groups: list[list[dict[str, Any]]] = []
    end = float("-inf")
    for event in on_gpu:
        if event["ts"] - end > MIN_PAUSE:
            groups.append([])
        groups[-1].append(event)
        end = max(end, event["ts"] + event["dur"])
    runtime = [event for event in timed if event.get("cat") in ("cuda_runtime", "cuda_driver")]
    return [_forward_pass(group, runtime) for group in groups]


def _forward_pass(group: list[dict[str, Any]], runtime: list[dict[str, Any]]) -> Pass:
    start = float(group[0]["ts"])
    end = max(float(event["ts"]) + float(event["dur"]) for event in group)
    correlations = {event["args"].get("correlation") for event in group if "args" in event}
    names = [event["name"] for event in runtime if event.get("args", {}).get("correlation") in correlations]
    by_kind: dict[str, float] = defaultdict(float)
    by_name: dict[str, list[float]] = defaultdict(list)
    for event in group:
        by_kind[kind_of(event["name"])] += event["dur"]
        by_name[event["name"][:90]].append(event["dur"])
    longest = sorted(((name, sum(times), len(times)) for name, times in by_name.items()), key=lambda row: -row[1])
    return Pass(
        span=end - start,
        busy=sum(event["dur"] for event in group),
        kernels=len(group),
        launches=sum("LaunchKernel" in name for name in names),
        graphs=sum("GraphLaunch" in name for name in names),
        kinds=dict(by_kind),
        longest=longest[:6],
    )
