import math

import pytest
import qmetric
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qmetric import QMetric, frobenius_cosine, q_metric
from qmetric.tolerances import SIMILARITY_TOLERANCE, max_abs

from tests.qmetric.problems import Problem, assert_matches_definition, problems


def test_public_names() -> None:
    assert sorted(qmetric.__all__) == ["ClusterState", "QMetric", "correlation_cosine", "frobenius_cosine", "q_metric"]


@settings(deadline=None, max_examples=60)
@given(problems())
def test_matches_the_definition(problem: Problem) -> None:
    embeddings, confidences, mask = problem.embeddings, problem.confidences, problem.mask
    result = q_metric(embeddings, confidences, mask, problem.gamma, problem.tau, return_similarity=True)
    assert_matches_definition(problem, result)
    assert result.S is not None
    assert torch.equal(frobenius_cosine(embeddings, mask), result.S)
    assert q_metric(embeddings, confidences, mask, problem.gamma, problem.tau).S is None


def test_two_answers_by_hand() -> None:
    # cos((3, 4), (4, 3)) = 24/25, the only pair, so P = 0.96 whatever the weights.
    embeddings = torch.tensor([[3.0, 4.0], [4.0, 3.0]]).view(1, 2, 1, 2)
    result = q_metric(embeddings, torch.tensor([[0.6, 0.8]]), return_similarity=True)
    assert result.P.item() == pytest.approx(0.96)
    assert result.C.item() == pytest.approx(math.sqrt(0.5))
    assert result.Q.item() == pytest.approx(math.sqrt(math.sqrt(0.5) * (1 - 0.26 / 0.7)), rel=1e-6)
    assert result.S is not None
    assert max_abs(result.S - torch.tensor([[[1.0, 0.96], [0.96, 1.0]]])) <= SIMILARITY_TOLERANCE


def test_three_answers_by_hand() -> None:
    # Orthogonal first and second; the third halfway: S = 0, 1/sqrt 2, 1/sqrt 2; weights 1/8, 1/4, 1/8.
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]).view(1, 3, 1, 2)
    result = q_metric(embeddings, torch.tensor([[0.5, 0.25, 0.5]]), gamma=0.25, tau=0.4)
    p = (0.25 + 0.125) / 0.5 * math.sqrt(0.5)
    c = math.sqrt((0.25 + 0.0625 + 0.25) / 3)
    assert result.P.item() == pytest.approx(p)
    assert result.C.item() == pytest.approx(c)
    assert result.Q.item() == pytest.approx(c**0.25 * (1 - (p - 0.4) / 0.6) ** 0.75, rel=1e-6)


def test_chunks_are_one_long_vector() -> None:
    embeddings = torch.randn(2, 3, 4, 5)
    whole = embeddings.reshape(2, 3, 1, 20)
    assert torch.equal(frobenius_cosine(embeddings), frobenius_cosine(whole))


@settings(deadline=None, max_examples=30)
@given(problems(), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_values_stay_in_range(problem: Problem, random: object) -> None:
    answers = problem.embeddings.shape[1]
    order = list(range(answers))
    random.shuffle(order)  # type: ignore[attr-defined]
    mask = None if problem.mask is None else problem.mask[:, order]
    a = q_metric(problem.embeddings, problem.confidences, problem.mask, return_similarity=True)
    b = q_metric(problem.embeddings[:, order], problem.confidences[:, order], mask, return_similarity=True)
    assert a.S is not None
    assert b.S is not None
    assert max_abs(a.S[:, order][:, :, order] - b.S) <= SIMILARITY_TOLERANCE
    assert max_abs(a.P - b.P) <= 1e-5
    assert max_abs(a.S - a.S.mT) <= SIMILARITY_TOLERANCE
    for value, least in ((a.Q, 0.0), (a.C, 0.0), (a.P, -1.0), (a.S, -1.0)):
        assert ((value >= least) & (value <= 1 + 1e-6)).all()


def test_identical_and_opposite_answers() -> None:
    one = torch.randn(1, 1, 1, 33)
    same = q_metric(one.expand(1, 5, 1, 33), torch.full((1, 5), 0.9), return_similarity=True)
    assert same.S is not None
    assert max_abs(same.S - 1) <= SIMILARITY_TOLERANCE
    assert same.P.item() == pytest.approx(1.0)
    opposite = q_metric(torch.cat([one, -one], 1), torch.ones(1, 2), return_similarity=True)
    assert opposite.P.item() == pytest.approx(-1.0)
    assert opposite.Q.item() == 0.0


def test_agreement_at_tau_is_the_best() -> None:
    angle = math.acos(0.7)
    embeddings = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]]).view(1, 2, 1, 2)
    assert q_metric(embeddings, torch.ones(1, 2)).Q.item() == pytest.approx(1.0, abs=1e-6)


def test_zero_vector_is_like_nothing() -> None:
    embeddings = torch.randn(1, 3, 1, 8)
    embeddings[0, 1] = 0
    s = frobenius_cosine(embeddings)
    assert max_abs(s[0, 1]) == 0
    assert max_abs(s[0, :, 1]) == 0
    assert s[0, 0, 0] == 1


@pytest.mark.parametrize("valid", [[], [1]])
def test_fewer_than_two_answers_never_exit(valid: list[int]) -> None:
    mask = torch.zeros(1, 3, dtype=torch.bool)
    mask[0, valid] = True
    result = q_metric(torch.randn(1, 3, 1, 8), torch.full((1, 3), 0.5), mask, tau=0.0)
    assert result.Q.item() == 0
    assert result.P.item() == 0
    assert result.C.item() == pytest.approx(0.5 if valid else 0.0)


def test_nan_reaches_q_unless_masked() -> None:
    embeddings = torch.randn(3, 3, 1, 8)
    confidences = torch.full((3, 3), 0.5)
    embeddings[0, 2, 0, 3] = math.nan
    confidences[1, 2] = math.nan
    for gamma in (0.0, 0.5, 1.0):
        result = q_metric(embeddings, confidences, gamma=gamma, return_similarity=True)
        assert result.Q.isnan().tolist() == [True, True, False]
    assert result.S is not None
    assert result.S.isnan().sum() == 5
    mask = torch.tensor([[True, True, False]] * 3)
    assert not any(value.isnan().any() for value in q_metric(embeddings, confidences, mask)[:3])


def test_out_is_written_and_returned() -> None:
    embeddings, confidences = torch.randn(2, 3, 1, 8), torch.rand(2, 3)
    expected = q_metric(embeddings, confidences, return_similarity=True)
    assert expected.S is not None
    out = QMetric(*(torch.full_like(value, math.nan) for value in expected if value is not None))
    result = q_metric(embeddings, confidences, out=out)
    assert all(a is b for a, b in zip(result, out, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True) if a is not None and b is not None)
    added = q_metric(embeddings, confidences, return_similarity=True, out=out[:3])
    assert added.Q is out.Q
    assert added.S is not None
    s = torch.full((2, 3, 3), math.nan)
    assert frobenius_cosine(embeddings, out=s) is s
    assert torch.equal(s, expected.S)


def test_strided_inputs_and_empty_batch() -> None:
    embeddings = torch.randn(3, 2, 8, 1).permute(1, 0, 3, 2)
    assert torch.equal(frobenius_cosine(embeddings), frobenius_cosine(embeddings.contiguous()))
    empty = q_metric(torch.empty(0, 3, 1, 8), torch.empty(0, 3), return_similarity=True)
    assert [list(value.shape) for value in empty if value is not None] == [[0], [0], [0], [0, 3, 3]]


X, W = torch.zeros(2, 3, 1, 8), torch.ones(2, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"embeddings": torch.zeros(2, 3, 8)}, ValueError, "unsqueeze"),
        ({"embeddings": X.double()}, TypeError, "float64"),
        ({"embeddings": torch.zeros(2, 65, 1, 8)}, ValueError, "1 to 64 answers"),
        ({"embeddings": torch.zeros(2, 3, 1, 0)}, ValueError, "d=0"),
        ({"confidences": torch.ones(2, 4)}, ValueError, "confidences must be"),
        ({"confidences": W.double()}, TypeError, "confidences"),
        ({"confidences": W.to("meta")}, ValueError, "meta"),
        ({"mask": W}, TypeError, "mask.bool"),
        ({"mask": torch.ones(3, 2, dtype=torch.bool)}, ValueError, "mask must be"),
        ({"gamma": 1.5}, ValueError, "gamma"),
        ({"tau": -0.1}, ValueError, "tau"),
        ({"tau": math.nan}, ValueError, "tau"),
        ({"out": (W, W)}, ValueError, "Q, C, P"),
        ({"out": (torch.empty(2), torch.empty(2), torch.empty(3))}, ValueError, "out P"),
        ({"out": (torch.empty(2), torch.empty(2).double(), torch.empty(2))}, TypeError, "out C"),
        ({"out": (torch.empty(4)[::2], torch.empty(2), torch.empty(2))}, ValueError, "contiguous"),
    ],
)
def test_refusals_say_what_was_wrong(arguments: dict[str, object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        q_metric(**({"embeddings": X, "confidences": W} | arguments))


def test_frobenius_cosine_refuses_too() -> None:
    with pytest.raises(ValueError, match="unsqueeze"):
        frobenius_cosine(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="out S"):
        frobenius_cosine(X, out=torch.empty(2, 3))
