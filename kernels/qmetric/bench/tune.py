"""Times candidate configurations of the kernels on a few problem sizes: `python -m qmetric.bench.tune`.

Prints, for each size, the fastest configurations and the one that `choose_config` returns; writes all of them as JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from qmetric.bench.floors import empty_launch, read_bandwidth
from qmetric.bench.shapes import LARGE, SMALL, Shape
from qmetric.bench.timing import input_set_count, time_in_cuda_graph
from qmetric.triton_kernels.config import KernelConfig, choose_config, power_of_two
from qmetric.triton_kernels.launcher import launch_metric

PROBLEM_SIZES = (
    SMALL,
    Shape(8, 9, 1, 1024),
    Shape(64, 32, 1, 768),
    Shape(1, 64, 1, 1024),
    Shape(256, 9, 1, 1024),
    Shape(1024, 9, 1, 1024),
    Shape(1024, 3, 1, 1024),
    Shape(65536, 3, 1, 1024),
    LARGE,
    Shape(65536, 5, 1, 384, torch.float32),
    Shape(32768, 9, 1, 1024, torch.float32),
    Shape(16384, 32, 1, 768),
    Shape(16384, 64, 1, 1024),
)


def candidates(shape: Shape) -> list[KernelConfig]:
    """Configurations worth a measurement for this size, the automatic choice first."""
    bits = 8 * shape.dtype.itemsize
    dimensions = shape.chunks * shape.size
    rows = max(16, power_of_two(shape.answers))
    width = max(4, power_of_two(shape.answers))
    vector = 128 // bits
    found = [choose_config(shape.batch, shape.answers, dimensions, bits)]
    if shape.batch <= 4096:
        found += split_candidates(shape.answers, dimensions, vector)
    if shape.batch >= 1024:
        blocks = (1, 2, 4) if rows == 16 else (1, 2)
        for warps, block, prefetch in itertools.product((1, 2, 4), blocks, (False, True)):
            if rows * block > 64 or (rows == 64 and prefetch):
                continue
            found.append(KernelConfig(rows, width, 8 * vector * block, vector, warps, split_k=False, prefetch=prefetch))
        plain = KernelConfig(rows, width, 8 * vector * (2 if rows == 16 else 1), vector, 1, split_k=False)
        found += [
            dataclasses.replace(plain, evict="evict_first"),
            dataclasses.replace(plain, evict="evict_first", warps=4),
            dataclasses.replace(plain, cache=".cg"),
            dataclasses.replace(plain, cache=".cg", warps=4),
        ]
        if rows == 16:
            found += [
                dataclasses.replace(plain, registers=64, warps=4),
                dataclasses.replace(plain, registers=64, warps=4, evict="evict_first"),
            ]
        if rows == 64:
            found += [
                dataclasses.replace(plain, vector=vector // 2, block_k=4 * vector),
                dataclasses.replace(plain, vector=vector // 2, block_k=4 * vector, evict="evict_first"),
            ]
    return list(dict.fromkeys(found))


def split_candidates(answers: int, dimensions: int, vector: int) -> list[KernelConfig]:
    """Configurations of the split-K kernel."""
    rows = max(8, power_of_two(answers))
    found = []
    for warps, block in itertools.product((2, 4, 8, 16), (1, 2, 4)):
        if 8 * vector * block * warps < 2 * dimensions and rows * rows * warps * 4 <= 128 << 10:
            found.append(KernelConfig(rows, rows, 8 * vector * block, vector, warps, split_k=True))
    return found


def measure(shape: Shape, bandwidth: float) -> list[dict[str, object]]:
    """The time of each candidate for one size, fastest first."""
    sets = input_set_count(shape.input_bytes)
    embeddings = torch.randn(
        (sets, shape.batch, shape.answers, shape.chunks, shape.size), dtype=shape.dtype, device="cuda"
    )
    confidences = torch.rand((sets, shape.batch, shape.answers), device="cuda")
    scores = torch.empty((3, shape.batch), device="cuda")
    q, c, p = scores.unbind(0)
    floor = (shape.input_bytes + shape.output_bytes) / bandwidth * 1e6
    automatic, *_ = configs = candidates(shape)

    def launch(config: KernelConfig, i: int) -> None:
        launch_metric(embeddings[i], None, confidences[i], 0.5, 0.7, None, q, c, p, config=config)

    def compile_config(config: KernelConfig) -> str | None:
        try:
            launch(config, 0)
        except Exception as error:  # a configuration that this GPU cannot hold is a result too
            return f"{type(error).__name__}: {error}"[:200]
        return None

    launch(automatic, 0)
    with ThreadPoolExecutor(8) as pool:
        refused = dict(zip(configs, pool.map(compile_config, configs), strict=True))
    torch.cuda.synchronize()
    rows: list[dict[str, object]] = []
    want: tuple[Tensor, Tensor, Tensor] | None = None
    for config in configs:
        row: dict[str, object] = {"shape": str(shape), "automatic": config == automatic, **dataclasses.asdict(config)}
        if refused[config] is not None:
            rows.append({**row, "us": float("inf"), "error": refused[config]})
            continue
        scores.fill_(float("nan"))
        launch(config, 0)
        got = (q.clone(), c.clone(), p.clone())
        want = want or got
        wrong = max((a - b).abs().max().item() for a, b in zip(got[1:], want[1:], strict=True))
        timing = time_in_cuda_graph(partial(launch, config), sets, repeats=10)
        row |= {"us": timing.median, "low": timing.low, "high": timing.high, "of_floor": floor / timing.median}
        if not wrong < 1e-5:
            row["error"] = f"differs from the first form by {wrong}"
        rows.append(row)
    return sorted(rows, key=lambda row: float(str(row["us"])))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Times candidate forms of the Q-metric kernel")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for tune.json")
    parser.add_argument("--most-clusters", type=int, default=1 << 20, help="leave out classes with a larger batch")
    options = parser.parse_args()
    bandwidth = read_bandwidth()
    print(f"read bandwidth {bandwidth / 1e12:.2f} TB/s, empty launch {empty_launch().median:.2f} us")
    everything = []
    for shape in PROBLEM_SIZES:
        if shape.batch > options.most_clusters:
            continue
        rows = measure(shape, bandwidth)
        everything += rows
        print(f"{shape}: {len(rows)} forms")
        for rank, row in enumerate(rows):
            if rank < 4 or row["automatic"] or "error" in row:
                form = "r{rows} w{width} k{block_k} v{vector} W{warps}".format(**row)
                switches = ("split_k", "prefetch", "cache", "evict", "registers")
                flags = "".join(f" {name}={row[name]}" for name in switches if row[name])
                share = f"{row['of_floor']:.1%} of the byte floor's speed" if "of_floor" in row else ""
                print(
                    f"  {float(str(row['us'])):9.2f} us {share} {form}{flags}"
                    f"{' (automatic)' if row['automatic'] else ''} {row.get('error', '')}"
                )
        torch.cuda.empty_cache()
    (options.out / "tune.json").write_text(json.dumps({"bandwidth": bandwidth, "rows": everything}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
