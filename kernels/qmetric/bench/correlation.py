"""`python -m qmetric.bench.correlation`: `correlation_cosine` against torch.compile of both forms, and the floors.

Every time is that of launches captured in a CUDA graph over fresh inputs, with the L2 cache overwritten before each
replay; "warm" is one input again and again. Exits 1 when an error is above the tolerance.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch._dynamo
from torch import Tensor

from qmetric import reference
from qmetric.bench.report import machine
from qmetric.bench.timing import Timing, time_in_cuda_graph
from qmetric.correlation import correlation_cosine
from qmetric.tolerances import CORRELATION_TOLERANCE, max_abs
from qmetric.triton_kernels.correlation_config import choose_correlation_config

PEAK_FLOPS = 989e12  # dense bf16 of an H100 or H200 (SXM), by its datasheet
_POOL_BYTES = 256 << 20  # of inputs, several times the L2 cache
_MOST_SETS = 64
_PADDING = 64  # tokens: matrix products of odd sizes would be slow


@dataclass(frozen=True, slots=True)
class Problem:
    """Answers of these lengths with hidden states of `hidden` bf16 numbers a token."""

    lengths: tuple[int, ...]
    hidden: int

    @property
    def ragged(self) -> bool:
        """Whether lengths differ."""
        return len(set(self.lengths)) > 1

    @property
    def floor(self) -> float:
        """Microseconds of the fewer operations of both forms at the peak rate."""
        total, hidden = sum(self.lengths), self.hidden
        return min(total * total * hidden, total * hidden * hidden) / PEAK_FLOPS * 1e6

    @property
    def n_by_n_floor(self) -> float:
        """Microseconds of the operations of the [n, n] form."""
        return sum(self.lengths) ** 2 * self.hidden / PEAK_FLOPS * 1e6

    def __str__(self) -> str:
        lengths = ",".join(map(str, self.lengths)) if self.ragged else f"{len(self.lengths)}x{self.lengths[0]}"
        return f"{lengths} h={self.hidden}"


EVEN = (
    *(Problem((n,) * 3, 1024) for n in (256, 512, 1024)),
    Problem((512,) * 3, 2560),
    Problem((2048,) * 9, 1024),
)


def ragged_problems(count: int = 20, seed: int = 0) -> list[Problem]:
    """Lognormal lengths (median 400 tokens, sigma 0.7) of 2 to 9 answers, for four widths."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        answers = (2, 3, 3, 5, 9)[number % 5]
        lengths = tuple(min(4096, round(400 * draw.lognormvariate(0, 0.7))) for _ in range(answers))
        found.append(Problem(lengths, (384, 1024, 2560, 4096)[number // 5]))
    return found


def h_by_h(x: Tensor, keep: Tensor) -> Tensor:
    """The correlation matrices of x [k, n, h], padded where not kept, and their cosines."""
    unit = _unit(x, keep)
    c = torch.bmm(unit.transpose(1, 2), unit).float().flatten(1)
    return _cosines(c @ c.T)


def n_by_n(x: Tensor, keep: Tensor) -> Tensor:
    """The same by the products of all tokens with all."""
    k, n, h = x.shape
    unit = _unit(x, keep).reshape(k * n, h)
    return _cosines((unit @ unit.T).float().square().reshape(k, n, k, n).sum((1, 3)))


def _unit(x: Tensor, keep: Tensor) -> Tensor:
    t = torch.where(keep[:, :, None], x, 0).float()
    return (t * t.square().sum(1, keepdim=True).rsqrt()).to(x.dtype)


def _cosines(gram: Tensor) -> Tensor:
    inverse = gram.diagonal().rsqrt()
    return gram * inverse[:, None] * inverse[None, :]


def random_states(problem: Problem, generator: torch.Generator) -> list[Tensor]:
    """Hidden states that agree more or less, with columns of very different norms."""
    topic = torch.randn((1, problem.hidden), device="cuda", generator=generator)
    scale = torch.randn(problem.hidden, device="cuda", generator=generator).exp()
    flat = torch.randn((sum(problem.lengths), problem.hidden), device="cuda", generator=generator)
    flat = (flat + 0.5 * flat.roll(1, 1) + 0.3 * topic) * scale
    return list(flat.to(torch.bfloat16).split(list(problem.lengths)))


def _padded(states: Sequence[Tensor], length: int) -> Tensor:
    x = states[0].new_zeros((len(states), length, states[0].shape[1]))
    for row, answer in zip(x, states, strict=True):
        row[: len(answer)] = answer
    return x


def measure(problem: Problem, generator: torch.Generator, with_compiled: bool) -> list[dict[str, object]]:
    """Every way to compute S of one problem: what ran, its time and its error."""
    size = 2 * sum(problem.lengths) * problem.hidden
    sets = [random_states(problem, generator) for _ in range(max(2, min(_MOST_SETS, -(-_POOL_BYTES // max(1, size)))))]
    wanted = reference.correlation(sets[0], torch.float64)
    config = choose_correlation_config(problem.lengths, problem.hidden, 16)
    out = torch.full((len(problem.lengths),) * 2, float("nan"), device="cuda")
    rows: list[dict[str, object]] = []

    def add(what: str, call: Callable[[int], Tensor], timed: int) -> None:
        error = max_abs(call(0).double() - wanted)
        timing = time_in_cuda_graph(call, timed, repeats=10)
        rows.append({"what": what, "timing": timing, "error": error})

    add(f"qmetric ({config.form})", lambda i: correlation_cosine(sets[i], out=out), len(sets))
    add("qmetric warm", lambda i: correlation_cosine(sets[0], out=out), _MOST_SETS)
    if with_compiled:
        longest = -(-max(problem.lengths) // _PADDING) * _PADDING
        padded = [_padded(states, longest) for states in sets[:16]]
        tokens = torch.arange(padded[0].shape[1], device="cuda")
        keep = tokens[None, :] < torch.tensor(problem.lengths, device="cuda")[:, None]
        for what, function in (("compiled n x n", n_by_n), ("compiled h x h", h_by_h)):
            torch._dynamo.reset()
            compiled = torch.compile(function, dynamic=False)
            add(what, lambda i, compiled=compiled: compiled(padded[i], keep), len(padded))  # type: ignore[misc]
    return rows


def plot(path: Path, rows: Sequence[tuple[Problem, list[dict[str, object]]]]) -> None:
    """Bars of all problems; nothing where matplotlib is not installed."""
    try:
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        return
    figure, panel = pyplot.subplots(figsize=(14, 6), layout="constrained")
    names = {"qmetric": "C0", "compiled n x n": "C1", "compiled h x h": "C2"}
    for place, (problem, found) in enumerate(rows):
        for row in found:
            name = "qmetric" if str(row["what"]).startswith("qmetric (") else str(row["what"])
            if name in names:
                timing = row["timing"]
                assert isinstance(timing, Timing)
                panel.plot(place, timing.median, "o", color=names[name], label=name if place == 0 else None)
        panel.plot(place, problem.floor, "k_", markersize=12, label="floor" if place == 0 else None)
    panel.set_yscale("log")
    panel.set_ylabel("microseconds a launch, in a CUDA graph")
    labels = [str(p) if len(str(p)) < 24 else f"{len(p.lengths)} of {sum(p.lengths)} h={p.hidden}" for p, _ in rows]
    panel.set_xticks(range(len(rows)), labels, rotation=60, ha="right", fontsize=8)
    panel.legend()
    figure.savefig(path, dpi=110)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m qmetric.bench.correlation", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(), help="folder for correlation.csv and correlation.png")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("qmetric.bench.correlation needs a CUDA GPU: none is visible", file=sys.stderr)
        return 2
    torch.set_float32_matmul_precision("high")  # tf32 for the products of flattened matrices
    options.out.mkdir(parents=True, exist_ok=True)
    print(machine("qmetric.bench.correlation"))
    print("microseconds a launch, median [10th-90th percentile], error of S against float64")
    generator = torch.Generator(device="cuda").manual_seed(options.seed)
    everything = []
    slower, wrong = [], 0
    with (options.out / "correlation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["lengths", "h", "what", "median_us", "p10_us", "p90_us", "error", "floor_us", "n_by_n_floor_us"]
        )
        for problem in (*EVEN, *ragged_problems()):
            found = measure(problem, generator, not options.no_compile)
            everything.append((problem, found))
            parts = []
            for row in found:
                timing, error = row["timing"], row["error"]
                assert isinstance(timing, Timing)
                assert isinstance(error, float)
                wrong += str(row["what"]).startswith("qmetric") and not error <= CORRELATION_TOLERANCE
                times = [f"{value:.3f}" for value in (timing.median, timing.low, timing.high)]
                floors = [f"{problem.floor:.3f}", f"{problem.n_by_n_floor:.3f}"]
                lengths = " ".join(map(str, problem.lengths))
                writer.writerow([lengths, problem.hidden, row["what"], *times, f"{error:.1e}", *floors])
                parts.append(f"{row['what']} {timing.median:.2f} [{timing.low:.2f}-{timing.high:.2f}] {error:.0e}")
            file.flush()
            print(f"{problem!s:28} floor {problem.floor:.2f}  {'  '.join(parts)}", flush=True)
            medians = [row["timing"].median for row in found if isinstance(row["timing"], Timing)]
            if len(medians) > 2 and min(medians[2:]) < medians[0]:
                slower.append(str(problem))
            torch.cuda.empty_cache()
    plot(options.out / "correlation.png", everything)
    print(f"slower than the faster compiled form at {len(slower)} of {len(everything)}: {'; '.join(slower) or 'none'}")
    print(f"errors above {CORRELATION_TOLERANCE:.0e}: {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
