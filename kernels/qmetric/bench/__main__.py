"""`python -m qmetric.bench`: the Q-metric kernel against the floors and against the ways one would do without it.

Every device time is that of launches captured in a CUDA graph over fresh inputs, with the L2 cache overwritten
before each replay; host times are wall-clock times of eager calls.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch._dynamo
from torch import Tensor

from qmetric.api import q_metric
from qmetric.bench import baselines
from qmetric.bench.floors import empty_launch, read_bandwidth
from qmetric.bench.report import Row, machine, plot, print_shape, write_csv
from qmetric.bench.shapes import EXTRA, SMALL, SWEEP, Shape
from qmetric.bench.timing import Timing, input_set_count, time_in_cuda_graph, time_on_host
from qmetric.incremental import ClusterState
from qmetric.result import QMetric

_EAGER_IN_GRAPH_BYTES = 1 << 30  # above this, torch's temporaries for a graph of launches would not fit


def measure(shape: Shape, compiled: dict[str, Callable[..., object]]) -> list[Row]:
    """Every way to compute Q, C and P of one shape."""
    sets = input_set_count(shape.input_bytes)
    embeddings = torch.randn(
        (sets, shape.batch, shape.answers, shape.chunks, shape.size), dtype=shape.dtype, device="cuda"
    )
    confidences = torch.rand((sets, shape.batch, shape.answers), device="cuda")
    out = QMetric(*(torch.empty(shape.batch, device="cuda") for _ in range(3)))
    inputs = [(embeddings[i], confidences[i]) for i in range(sets)]
    rows = []

    def add(implementation: str, launch_mode: str, timing: Timing) -> None:
        rows.append(Row(shape, implementation, launch_mode, timing))

    add("qmetric", "graph", time_in_cuda_graph(lambda i: q_metric(*inputs[i], out=out), sets))
    few = min(sets, 16)
    if shape.input_bytes < _EAGER_IN_GRAPH_BYTES:
        add("torch", "graph", time_in_cuda_graph(partial(_on_set, baselines.float32_matmul, inputs), few))
    if shape == SMALL:
        add("qmetric", "eager", time_on_host(lambda: q_metric(*inputs[0]), wait=True))
        add("qmetric out=", "eager", time_on_host(lambda: q_metric(*inputs[0], out=out), wait=True))
        add("qmetric call", "eager", time_on_host(lambda: q_metric(*inputs[0]), wait=False))
        add("torch", "eager", time_on_host(lambda: baselines.float32_matmul(*inputs[0]), wait=True))
    cosine = baselines.sentence_transformers_cosine()
    if cosine is not None and shape.batch <= 8 and shape.chunks == 1:
        add("cos_sim", "graph", time_in_cuda_graph(partial(_each_cluster, cosine, inputs), few))
        if shape == SMALL:
            add("cos_sim", "eager", time_on_host(partial(_each_cluster, cosine, inputs, 0), wait=True))
    if shape.answers == 9 and shape.chunks == 1 and shape.input_bytes < _EAGER_IN_GRAPH_BYTES:
        states = [ClusterState.of(e[:, :-1], c[:, :-1], capacity=9) for e, c in inputs]
        add("extend", "graph", time_in_cuda_graph(partial(_last_answer, states, inputs), sets))
        if shape.batch == 1:
            add("extend", "eager", time_on_host(partial(_last_answer, states, inputs, 0), wait=True))
    for implementation, function in compiled.items():
        if implementation == "compiled" or shape.dtype.itemsize == 2:
            torch._dynamo.reset()
            add(implementation, "graph", time_in_cuda_graph(partial(_on_set, function, inputs), few))
    return rows


def _on_set(function: Callable[..., object], inputs: list[tuple[Tensor, Tensor]], i: int) -> None:
    function(*inputs[i])


def _last_answer(states: list[ClusterState], inputs: list[tuple[Tensor, Tensor]], i: int) -> None:
    states[i].count = 8
    states[i].extend(inputs[i][0][:, 8], inputs[i][1][:, 8])


def _each_cluster(cosine: Callable[[Tensor, Tensor], Tensor], inputs: list[tuple[Tensor, Tensor]], i: int) -> None:
    for cluster in inputs[i][0]:
        cosine(cluster[:, 0], cluster[:, 0])


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m qmetric.bench", description="Q-metric microbenchmarks")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for bench.csv and bench.png")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out (it takes most of the time)")
    parser.add_argument("--shape", action="append", help="only this one, as BATCHxANSWERSxMxD; repeatable")
    parser.add_argument("--quick", action="store_true", help="the smallest and the largest batch of each cluster only")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("qmetric.bench needs a CUDA GPU: none is visible", file=sys.stderr)
        return 2
    compiled: dict[str, Callable[..., object]] = {}
    if not options.no_compile:
        compiled["compiled"] = torch.compile(baselines.float32_matmul, dynamic=False)
        compiled["compiled bmm"] = torch.compile(baselines.native_dtype_bmm, dynamic=False)
    options.out.mkdir(parents=True, exist_ok=True)

    print(machine())
    bandwidth = read_bandwidth()
    print(f"read bandwidth {bandwidth / 1e12:.3f} TB/s, empty launch in a graph {empty_launch().median:.2f} us")
    print("microseconds a launch, median [10th-90th percentile] (share of the byte floor's speed)")
    rows: list[Row] = []
    slower: list[str] = []
    shapes = [shape for shape in SWEEP if not options.quick or shape.batch in (1, 65536)] + list(EXTRA)
    if options.shape:
        shapes = [shape for shape in (*SWEEP, *EXTRA) if str(shape).split()[0] in options.shape]
    for shape in shapes:
        found = measure(shape, compiled)
        rows += found
        print_shape(shape, found, bandwidth)
        ours = found[0].timing.median
        rivals = [row.timing.median for row in found if row.implementation.startswith("compiled")]
        if rivals and min(rivals) < ours:
            slower.append(str(shape))
        write_csv(options.out / "bench.csv", rows, bandwidth)
        torch.cuda.empty_cache()
    plotted = plot(options.out / "bench.png", [row for row in rows if row.shape in SWEEP], bandwidth)
    print(f"slower than torch.compile at {len(slower)} of {len(shapes)} shapes: {', '.join(slower) or 'none'}")
    print(f"bench.csv{' and bench.png' if plotted else ''} in {options.out.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
