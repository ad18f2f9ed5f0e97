"""Correctness on the GPU against float64: `python -m qmetric.bench.check [--small] [--seed N]`.

`--small` runs few and small problems, for compute-sanitizer. Outputs are poisoned before each call and every run
draws new inputs. Exits 1 on the first error above the tolerances.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from qmetric import reference
from qmetric.api import frobenius_cosine, q_metric
from qmetric.correlation import correlation_cosine
from qmetric.incremental import ClusterState
from qmetric.result import QMetric
from qmetric.tolerances import CORRELATION_TOLERANCE, SCORE_TOLERANCE, SIMILARITY_TOLERANCE, max_abs, score_error
from qmetric.triton_kernels.config import KernelConfig
from qmetric.triton_kernels.launcher import launch_metric

TYPES = (torch.bfloat16, torch.float16, torch.float32)
Problem = tuple[Tensor, Tensor, Tensor | None]
Judge = Callable[[str, Problem, QMetric], None]


def random_problem(
    batch: int, answers: int, chunks: int, size: int, dtype: torch.dtype, masked: bool, generator: torch.Generator
) -> Problem:
    """Clusters whose answers agree more or less, confidences, and a mask or None."""
    device = generator.device
    topic = torch.randn((batch, 1, chunks, size), device=device, generator=generator)
    noise = torch.randn((batch, answers, chunks, size), device=device, generator=generator)
    confidences = torch.rand((batch, answers), device=device, generator=generator)
    mask = torch.rand((batch, answers), device=device, generator=generator) > 0.3 if masked else None
    return (topic + noise).to(dtype), confidences, mask


def max_errors(problem: Problem, result: QMetric) -> tuple[float, float]:
    """The largest errors of S and of Q, C, P against float64."""
    embeddings, confidences, mask = problem
    s = reference.similarity(embeddings, mask, torch.float64)
    _, c, p = reference.scores(s, confidences, mask, 0.5, 0.7, torch.float64)
    of_s = 0.0 if result.S is None else max_abs(result.S.double() - s)
    return of_s, score_error(result, c, p, 0.5, 0.7)


def poisoned(batch: int, answers: int) -> QMetric:
    """Outputs full of NaN."""
    sizes: list[tuple[int, ...]] = [(batch,)] * 3 + [(batch, answers, answers)]
    return QMetric(*(torch.full(size, float("nan"), device="cuda") for size in sizes))


def check_all(small: bool, seed: int) -> int:
    """Run every check; the number of failures."""
    generator = torch.Generator(device="cuda").manual_seed(seed)
    failures = 0
    worst = [0.0, 0.0]

    def judge(name: str, problem: Problem, result: QMetric) -> None:
        nonlocal failures
        found = max_errors(problem, result)
        worst[:] = [max(a, b) for a, b in zip(worst, found, strict=True)]
        if not (found[0] <= SIMILARITY_TOLERANCE and found[1] <= SCORE_TOLERANCE):
            failures += 1
            print(f"WRONG {name}: S {found[0]:.2e}, scores {found[1]:.2e}")

    count = 0
    for batch, answers, chunks, size, dtype in _problems(small):
        count += 1
        name = f"{batch}x{answers}x{chunks}x{size} {dtype}"
        problem = random_problem(batch, answers, chunks, size, dtype, answers % 2 == 1, generator)
        judge(f"q_metric {name}", problem, q_metric(*problem, out=poisoned(batch, answers)))
        if answers == 9:
            result = q_metric(*problem)._replace(S=frobenius_cosine(problem[0], problem[2]))
            judge(f"frobenius_cosine {name}", problem, result)

    for batch, answers, size in ((1, 3, 77), (4, 9, 64)) if small else ((1, 3, 77), (300, 9, 1024), (40, 33, 64)):
        for dtype in TYPES:
            problem = random_problem(batch, answers, 1, size, dtype, True, generator)
            embeddings, confidences, mask = problem
            assert mask is not None
            state = ClusterState(batch, answers, 1, size, dtype=dtype, device="cuda")
            for i in range(answers):
                grown = state.extend(embeddings[:, i], confidences[:, i], mask[:, i])
            count += 1
            judge(f"extend {batch}x{answers}x{size} {dtype}", problem, grown)

    failures += _check_correlation(generator, small)
    if not small:
        count += _check_configs(judge, generator)
        failures += _check_values(generator)
    torch.cuda.synchronize()
    print(
        f"{count} problems, seed {seed}: worst error of S {worst[0]:.2e} (limit {SIMILARITY_TOLERANCE:.0e}), "
        f"of Q, C, P {worst[1]:.2e} (limit {SCORE_TOLERANCE:.0e}); {failures} failures"
    )
    return failures


def _problems(small: bool) -> Iterator[tuple[int, int, int, int, torch.dtype]]:
    """Sizes [batch, answers, chunks, size]: every cluster at one embedding size, then odd and split embeddings."""
    if small:
        for batch, answers, size in itertools.product((1, 5), (3, 9, 33), (64, 67)):
            yield batch, answers, 1, size, TYPES[(batch + answers + size) % 3]
        yield 4500, 3, 1, 64, torch.bfloat16
        yield 1100, 33, 1, 64, torch.bfloat16
        return
    for batch, answers, dtype in itertools.product((1, 300, 5000), (1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64), TYPES):
        yield batch, answers, 1, 1024, dtype
    for (chunks, size), answers, batch in itertools.product(
        ((1, 384), (4, 96), (1, 1000), (3, 67), (1, 1), (1, 9000)), (3, 9, 33), (5, 5000)
    ):
        yield batch if size < 9000 else 50, answers, chunks, size, TYPES[(size + answers) % 3]


def _check_configs(judge: Judge, generator: torch.Generator) -> int:
    """Every configuration that `choose_config` may return, on one batch of odd sizes each."""
    configs = []
    for dtype in (torch.bfloat16, torch.float32):
        vector = 16 // dtype.itemsize
        for rows, prefetch in itertools.product((16, 32, 64), (False, True)):
            for width, warps in ((rows, 1), (rows // 4, 4), (rows // 2, 2)):
                configs.append((dtype, KernelConfig(rows, width, 8 * vector, vector, warps, False, prefetch)))
        for rows, warps, blocks in itertools.product((8, 16, 32, 64), (1, 2, 4, 8), (1, 2)):
            configs.append((dtype, KernelConfig(rows, rows, 8 * vector * blocks, vector, warps, True)))
    for dtype, config in configs:
        answers = config.width - 1
        problem = random_problem(37, answers, 1, 200, dtype, True, generator)
        out = poisoned(37, answers)
        launch_metric(problem[0], problem[2], problem[1], 0.5, 0.7, out.S, out.Q, out.C, out.P, config=config)
        judge(f"{config}", problem, out)
    return len(configs)


def _check_correlation(generator: torch.Generator, small: bool) -> int:
    """Hidden states of both forms' shapes, ragged, with a NaN and an answer without tokens; the number of failures."""
    failures = 0
    shapes = [((5, 70, 0), 64), ((40, 90), 200), ((300, 20), 70)]
    if not small:
        shapes += [((513, 200, 77), 1024), ((147, 210, 155), 2560), ((200,) * 9, 96), ((20,) * 12, 64)]
    for (lengths, hidden), dtype in itertools.product(shapes, TYPES):
        scale = torch.rand(hidden, device=generator.device, generator=generator) + 0.1
        states = [
            (torch.randn((n, hidden), device=generator.device, generator=generator) + 0.3) * scale for n in lengths
        ]
        given = [x.to(dtype) for x in states]
        out = torch.full((len(lengths),) * 2, float("nan"), device=generator.device)
        error = max_abs(correlation_cosine(given, out=out).double() - reference.correlation(given, torch.float64))
        given[0][0, 0] = float("nan")
        spoilt = correlation_cosine(given).isnan().sum().item()
        if not error <= CORRELATION_TOLERANCE or spoilt != 2 * len(lengths) - 1:
            failures += 1
            print(f"WRONG correlation_cosine {lengths} {hidden} {dtype}: S {error:.2e}, {spoilt} NaN")
    return failures


def _check_values(generator: torch.Generator) -> int:
    """NaN, zero vectors, identical and opposite answers, beside ordinary clusters in one batch."""
    embeddings, confidences, _ = random_problem(6, 4, 1, 256, torch.bfloat16, False, generator)
    embeddings[0, 1, 0, 7] = float("nan")
    embeddings[1, 2] = 0
    embeddings[2, 1:] = embeddings[2, :1]
    embeddings[3, 1] = -embeddings[3, 0]
    confidences[4, 0] = float("nan")
    q, _, _, s = q_metric(embeddings, confidences, return_similarity=True)
    assert s is not None
    mask = torch.ones((6, 4), dtype=torch.bool, device="cuda")
    mask[0, 1] = False
    mask[4, 0] = False
    healed = q_metric(embeddings, confidences, mask)
    wrong = [
        name
        for name, right in (
            ("NaN reaches Q and nothing else", q.isnan().tolist() == [True, False, False, False, True, False]),
            ("NaN stays in its row and column", s[0].isnan().sum().item() == 7 and not s[1:].isnan().any().item()),
            ("a zero vector is like nothing", s[1, 2].abs().max().item() == 0),
            ("identical answers", (s[2] - 1).abs().max().item() <= SIMILARITY_TOLERANCE),
            ("opposite answers", abs(s[3, 0, 1].item() + 1) <= SIMILARITY_TOLERANCE),
            ("a masked NaN has no effect", not healed.Q.isnan().any().item()),
        )
        if not right
    ]
    for name in wrong:
        print(f"WRONG {name}")
    return len(wrong)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Correctness on the GPU against float64")
    parser.add_argument("--small", action="store_true", help="few, small problems (compute-sanitizer)")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one each run")
    options = parser.parse_args()
    seed = int(torch.randint(1 << 30, ()).item()) if options.seed is None else options.seed
    return 1 if check_all(options.small, seed) else 0


if __name__ == "__main__":
    sys.exit(main())
