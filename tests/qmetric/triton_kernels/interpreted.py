"""Run by `test_interpreter.py` under TRITON_INTERPRET=1, where CPU tensors go through the Triton kernels."""

import itertools
import math
import os

import pytest
import torch
from hypothesis import given, settings
from qmetric import ClusterState, QMetric, frobenius_cosine, ops, q_metric
from qmetric.triton_kernels.config import KernelConfig
from qmetric.triton_kernels.launcher import launch_metric

from tests.qmetric.problems import TYPES, Problem, assert_matches_definition, problems

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
EXAMPLES = int(os.environ.get("EXAMPLES", "100"))  # of the profile of the tests that run this


def test_the_kernels_are_what_runs() -> None:
    assert ops.kernel_launcher_for(torch.empty(1)) is not None


@settings(deadline=None, max_examples=EXAMPLES // 4)
@given(problems(max_answers=20, max_size=80, max_batch=2))
def test_matches_the_definition(problem: Problem) -> None:
    result = q_metric(
        problem.embeddings, problem.confidences, problem.mask, problem.gamma, problem.tau, return_similarity=True
    )
    assert_matches_definition(problem, result)
    assert_matches_definition(
        problem, q_metric(problem.embeddings, problem.confidences, problem.mask, problem.gamma, problem.tau)
    )
    assert result.S is not None
    assert torch.equal(frobenius_cosine(problem.embeddings, problem.mask), result.S)


@settings(deadline=None, max_examples=EXAMPLES // 8)
@given(problems(max_answers=6, max_batch=2))
def test_incremental(problem: Problem) -> None:
    batch, answers, chunks, size = problem.embeddings.shape
    state = ClusterState(
        batch, answers, chunks, size, dtype=problem.embeddings.dtype, gamma=problem.gamma, tau=problem.tau
    )
    for i in range(answers):
        valid = None if problem.mask is None else problem.mask[:, i]
        result = state.extend(problem.embeddings[:, i], problem.confidences[:, i], valid)
    assert_matches_definition(problem, result)


STREAMING = itertools.product((16, 32, 64), ((1, 1), (2, 2), (4, 4)), (False, True))
SPLIT = itertools.product((8, 16, 32, 64), ((1, 1), (2, 2), (4, 1)))
CONFIGS = [
    {"rows": rows, "width": rows // part, "warps": warps, "split_k": False, "prefetch": prefetch}
    for rows, (part, warps), prefetch in STREAMING
] + [
    {"rows": rows, "width": rows, "warps": warps, "blocks": blocks, "split_k": True} for rows, (warps, blocks) in SPLIT
]


@pytest.mark.parametrize("choices", CONFIGS)
def test_every_config(choices: dict[str, int]) -> None:
    dtype = TYPES[sum(choices.values()) % 3]
    vector = 16 // dtype.itemsize
    without_blocks = {name: value for name, value in choices.items() if name != "blocks"}
    blocks = choices.get("blocks", 1)
    config = KernelConfig(block_k=8 * vector * blocks, vector=vector, **without_blocks)  # type: ignore[arg-type]
    # A split program serves one cluster, a streaming one several: five leave its last tile half empty.
    batch, answers = 2 if config.split_k else 5, config.width - 1
    problem = Problem(
        torch.randn(batch, answers, 1, 70).to(dtype),
        torch.rand(batch, answers),
        torch.rand(batch, answers) > 0.2,
        0.5,
        0.7,
    )
    q, c, p = torch.full((3, batch), math.nan).unbind(0)
    s = torch.full((batch, answers, answers), math.nan)
    launch_metric(problem.embeddings, problem.mask, problem.confidences, 0.5, 0.7, s, q, c, p, config=config)
    assert_matches_definition(problem, QMetric(q, c, p, s))


def test_nan_zero_identical_and_masked() -> None:
    embeddings = torch.randn(6, 3, 1, 70)
    confidences = torch.full((6, 3), 0.5)
    embeddings[0, 2, 0, 69] = math.nan
    confidences[1, 2] = math.nan
    embeddings[2, 1] = 0
    embeddings[3, 1:] = embeddings[3, :1]
    confidences[5, 2] = math.inf
    mask = torch.ones(6, 3, dtype=torch.bool)
    mask[4, 1:] = False
    for gamma in (0.0, 0.5, 1.0):
        result = q_metric(embeddings, confidences, mask, gamma, return_similarity=True)
        assert result.Q.isnan().tolist() == [True, True, False, False, False, True]
    assert result.S is not None
    assert result.S.isnan().sum() == 5
    assert result.S[2, 1].abs().max() == 0
    assert (result.S[3] - 1).abs().max() <= 1e-6
    assert (result.Q[4], result.P[4]) == (0, 0)
    mask[[0, 1, 5], 2] = False
    assert not q_metric(embeddings, confidences, mask).Q.isnan().any()
