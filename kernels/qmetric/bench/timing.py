"""Times launches on the GPU, without the host's overhead and with a cold L2 cache."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_FLUSH_BYTES = 256 << 20  # several times the L2 cache
_POOL_BYTES = 512 << 20
_MAX_LAUNCHES = 128


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds of one launch: the median and the 10th and 90th percentiles of the repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: list[float]) -> Timing:
        """The figures of some samples."""
        ordered = sorted(samples)
        last = len(ordered) - 1
        return cls(statistics.median(ordered), ordered[round(0.1 * last)], ordered[round(0.9 * last)])


def input_set_count(bytes_each: int) -> int:
    """How many input sets to rotate among, so that each is read from memory, once in each replay."""
    return max(2, min(_MAX_LAUNCHES, -(-_POOL_BYTES // max(1, bytes_each))))


def time_in_cuda_graph(launch: Callable[[int], object], sets: int, repeats: int = 20) -> Timing:
    """The time of `launch(i)`, i = 0 .. sets-1, captured in one CUDA graph, per launch.

    The cache is overwritten before each replay, outside the timed part.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for i in range(min(sets, 3)):
            launch(i)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for i in range(sets):
            launch(i)
    flush = torch.empty(_FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    samples = []
    for repeat in range(repeats + 3):
        flush.fill_(repeat)
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        if repeat >= 3:
            samples.append(start.elapsed_time(end) * 1e3 / sets)
    graph.reset()
    return Timing.of(samples)


def time_on_host(call: Callable[[], object], *, wait: bool, repeats: int = 300) -> Timing:
    """Wall-clock time of an eager call, with or without waiting for the device to finish it."""
    for _ in range(20):
        call()
    samples = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if wait:
            torch.cuda.synchronize()
        samples.append((time.perf_counter() - start) * 1e6)
    return Timing.of(samples)
