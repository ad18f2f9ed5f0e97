"""Random clusters for the tests, and the comparison of a result with the definition."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from qmetric import QMetric
from qmetric.tolerances import SCORE_TOLERANCE, SIMILARITY_TOLERANCE, max_abs, score_error
from torch import Tensor

from tests.qmetric import oracle

TYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass
class Problem:
    embeddings: Tensor
    confidences: Tensor
    mask: Tensor | None
    gamma: float
    tau: float


@st.composite
def problems(draw: st.DrawFn, max_answers: int = 12, max_size: int = 40, max_batch: int = 3) -> Problem:
    batch = draw(st.integers(1, max_batch))
    answers = draw(st.integers(1, max_answers))
    chunks = draw(st.integers(1, 3))
    size = draw(st.integers(1, max_size))
    dtype = draw(st.sampled_from(TYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    spread = draw(st.sampled_from((0.0, 0.1, 1.0, 10.0)))
    topic = torch.randn((batch, 1, chunks, size), generator=generator)
    noise = torch.randn((batch, answers, chunks, size), generator=generator)
    confidences = torch.rand((batch, answers), generator=generator) * 0.99 + 0.01
    mask = torch.rand((batch, answers), generator=generator) < draw(st.sampled_from((0.0, 0.5, 0.9)))
    return Problem(
        (topic + spread * noise).to(dtype),
        confidences,
        mask if draw(st.booleans()) else None,
        draw(st.sampled_from((0.5, 0.0, 1.0, 0.3))),
        draw(st.sampled_from((0.7, 0.0, 0.5, 1.0))),
    )


def assert_matches_definition(problem: Problem, result: QMetric) -> None:
    _, c, p, s = oracle.batch(problem.embeddings, problem.confidences, problem.mask, problem.gamma, problem.tau)
    assert all(value is None or value.dtype == torch.float32 for value in result)
    assert score_error(result, c, p, problem.gamma, problem.tau) <= SCORE_TOLERANCE
    if result.S is not None:
        assert max_abs(result.S.double() - s) <= SIMILARITY_TOLERANCE
