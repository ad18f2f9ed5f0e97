"""Similarity by correlation matrices of hidden states, in plain torch on a CPU."""

import math

import pytest
import torch
from qmetric import correlation_cosine
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.qmetric.hidden_states import correlations, hidden_states


@pytest.mark.parametrize(
    ("lengths", "hidden"), [([5, 9, 2], 40), ([50, 9, 33], 12), ([7], 3), ([1, 1, 4], 16), ([20] * 9, 24)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matches_the_definition(lengths: list[int], hidden: int, dtype: torch.dtype) -> None:
    states = hidden_states(lengths, hidden, dtype)
    s = correlation_cosine(states)
    assert s.dtype == torch.float32
    assert (s.double() - correlations(states)).abs().max() <= 1e-5
    assert s.diagonal().tolist() == [1.0] * len(lengths)
    offsets = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    assert torch.equal(correlation_cosine(torch.cat(states), offsets), s)
    out = torch.empty_like(s)
    assert correlation_cosine(torch.cat(states), torch.tensor(offsets), out=out) is out
    assert torch.equal(out, s)


@pytest.mark.parametrize("hidden", [6, 60])  # the [h, h] form and the [n, n] form
def test_scales_and_signs_of_columns_do_not_count(hidden: int) -> None:
    states = hidden_states([8, 11], hidden)
    scaled = [x * torch.linspace(-3, 5, hidden) for x in states]
    assert (correlation_cosine(states)[0, 1] - correlation_cosine(scaled)[0, 1]).abs() <= 1e-5
    assert correlation_cosine([states[0], states[0].flip(0)])[0, 1] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("hidden", [6, 60])
def test_nothing_zeros_and_nan(hidden: int) -> None:
    states = [*hidden_states([5, 0, 4, 6], hidden), torch.zeros(3, hidden)]
    states[2][:, 1] = 0
    states[3][2, 2] = math.nan
    s = correlation_cosine(states)
    assert s[1].nan_to_num(0).tolist() == [0.0] * 5
    assert s[4].nan_to_num(0).tolist() == [0.0] * 5
    assert s[3].isnan().all()
    others = [0, 2]
    assert (s[others][:, others].double() - correlations([states[i] for i in others])).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("states", "offsets", "message"),
    [
        ([], None, "a cluster has 1 to 64 answers, there are 0: split the cluster"),
        ([torch.ones(2, 3)] * 65, None, "there are 65"),
        ([torch.ones(2, 3), torch.ones(2, 4)], None, "hidden states must be .tokens, h. with one h, got .2, 4."),
        ([torch.ones(3)], None, "must be .tokens, h."),
        ([torch.ones(2, 3), torch.ones(2, 3, device="meta")], None, "hidden states are on cpu and meta"),
        ([torch.ones(2, 0)], None, "a hidden state has 1 to 16384 numbers, got 0"),
        ([torch.ones(2, 3)], [0, 2], "offsets belong to one tensor"),
        (torch.ones(4, 3), None, "needs offsets"),
        (torch.ones(4, 3), [0, 3], "offsets must rise from 0 to the 4 rows"),
        (torch.ones(4, 3), [0, 3, 2, 4], "offsets must rise from 0 to the 4 rows"),
        (torch.ones(4, 3), torch.zeros(2, device="meta"), "offsets are on meta"),
        (torch.ones(4), [0, 4], "must be .tokens, h."),
    ],
)
def test_wrong_arguments(states: list[torch.Tensor], offsets: list[int] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        correlation_cosine(states, offsets)


def test_wrong_dtypes() -> None:
    with pytest.raises(TypeError, match="must be bfloat16, float16 or float32, got"):
        correlation_cosine([torch.ones(2, 3).double()])
    with pytest.raises(TypeError, match="must have one dtype"):
        correlation_cosine([torch.ones(2, 3), torch.ones(2, 3).half()])
    with pytest.raises(TypeError, match="out S must be float32"):
        correlation_cosine([torch.ones(2, 3)], out=torch.empty(1, 1).double())


@pytest.mark.slow  # it imports much of PyTorch
def test_the_operator_can_be_traced() -> None:
    for operator, arguments in (
        (torch.ops.qmetric.correlation_cosine, ()),
        (torch.ops.qmetric.correlation_cosine_out, (torch.empty(2, 2),)),
    ):
        torch.library.opcheck(
            operator.default, (hidden_states([3, 4], 5), *arguments), test_utils=("test_schema", "test_faketensor")
        )
    with FakeTensorMode():
        s = correlation_cosine([torch.empty(3, 8, dtype=torch.bfloat16), torch.empty(4, 8, dtype=torch.bfloat16)])
        assert (s.shape, s.dtype) == ((2, 2), torch.float32)
