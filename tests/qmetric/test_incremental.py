import pytest
import torch
from hypothesis import given, settings
from qmetric import ClusterState, q_metric
from qmetric.tolerances import SIMILARITY_TOLERANCE, max_abs

from tests.qmetric.problems import Problem, assert_matches_definition, problems


@settings(deadline=None, max_examples=30)
@given(problems(max_answers=6))
def test_one_by_one_equals_all_at_once(problem: Problem) -> None:
    batch, answers, chunks, size = problem.embeddings.shape
    state = ClusterState(
        batch, answers + 1, chunks, size, dtype=problem.embeddings.dtype, gamma=problem.gamma, tau=problem.tau
    )
    for i in range(answers):
        valid = None if problem.mask is None else problem.mask[:, i]
        result = state.extend(problem.embeddings[:, i], problem.confidences[:, i], valid)
        so_far = Problem(
            problem.embeddings[:, : i + 1],
            problem.confidences[:, : i + 1],
            None if problem.mask is None else problem.mask[:, : i + 1],
            problem.gamma,
            problem.tau,
        )
        assert_matches_definition(so_far, result)


def test_starts_from_answers_that_are_there() -> None:
    embeddings, confidences = torch.randn(2, 4, 1, 16), torch.rand(2, 4)
    state = ClusterState.of(embeddings[:, :3], confidences[:, :3], capacity=4, tau=0.5)
    result = state.extend(embeddings[:, 3], confidences[:, 3])
    expected = q_metric(embeddings, confidences, tau=0.5, return_similarity=True)
    assert all(
        max_abs(a - b) <= SIMILARITY_TOLERANCE
        for a, b in zip(result, expected, strict=True)
        if a is not None and b is not None
    )


def test_zero_and_nan_answers() -> None:
    state = ClusterState(1, 3, 1, 8, dtype=torch.float32)
    state.extend(torch.randn(1, 1, 8), torch.ones(1))
    zero = state.extend(torch.zeros(1, 1, 8), torch.ones(1))
    assert zero.S is not None
    assert zero.S[0].tolist() == [[1, 0], [0, 0]]
    assert state.extend(torch.full((1, 1, 8), torch.nan), torch.ones(1)).Q.isnan().all()


def test_refusals() -> None:
    state = ClusterState(2, 1, 1, 8)
    good = torch.zeros(2, 1, 8, dtype=torch.bfloat16)
    with pytest.raises(TypeError, match="bfloat16 like the state"):
        state.extend(good.float(), torch.ones(2))
    with pytest.raises(ValueError, match="embedding must be"):
        state.extend(good[:1], torch.ones(2))
    with pytest.raises(ValueError, match="confidences must be"):
        state.extend(good, torch.ones(3))
    with pytest.raises(TypeError, match="mask must be bool"):
        state.extend(good, torch.ones(2), torch.ones(2))
    assert state.count == 0
    state.extend(good, torch.ones(2))
    with pytest.raises(ValueError, match="larger capacity"):
        state.extend(good, torch.ones(2))
    with pytest.raises(ValueError, match="1 to 64"):
        ClusterState(1, 65, 1, 8)
    with pytest.raises(ValueError, match="do not fit"):
        ClusterState.of(torch.randn(1, 3, 1, 8), torch.ones(1, 3), capacity=2)
