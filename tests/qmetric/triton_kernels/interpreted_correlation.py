"""Run by `test_interpreter.py` under TRITON_INTERPRET=1, where CPU tensors go through the Triton kernels."""

import math

import pytest
import torch
from qmetric import correlation_cosine
from qmetric.tolerances import CORRELATION_TOLERANCE
from qmetric.triton_kernels import correlation_launcher
from qmetric.triton_kernels.correlation_config import CorrelationConfig
from qmetric.triton_kernels.correlation_launcher import launch_correlation

from tests.qmetric.hidden_states import correlations, hidden_states

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
COLUMNS = CorrelationConfig("columns", 16, 16, 4, 2)
ROWS = CorrelationConfig("rows", 16, 32, 4, 2, 16)


@pytest.mark.parametrize("config", [COLUMNS, ROWS])
@pytest.mark.parametrize(
    ("lengths", "hidden", "dtype"),
    [
        ([20, 5, 33], 40, torch.bfloat16),
        ([17, 0, 3, 1], 16, torch.float32),
        ([9], 35, torch.float16),
        ([3] * 10, 20, torch.bfloat16),
    ],
)
def test_matches_the_definition(config: CorrelationConfig, lengths: list[int], hidden: int, dtype: torch.dtype) -> None:
    states = hidden_states(lengths, hidden, dtype)
    wanted = correlations(states)
    for _ in range(2):  # the second launch finds what the first one left
        s = torch.full((len(lengths), len(lengths)), math.nan)
        launch_correlation(states, s, config)
        assert (s.double() - wanted).abs().max() <= CORRELATION_TOLERANCE


@pytest.mark.parametrize("config", [COLUMNS, ROWS])
def test_a_workspace_is_left_as_it_was(config: CorrelationConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = torch.full((4096,), -1, dtype=torch.int32)
    monkeypatch.setattr(correlation_launcher, "workspace", lambda device, words: kept)
    correlation_launcher._prepared.clear()
    s = torch.empty(3, 3)
    for n in (20, 3):
        launch_correlation(hidden_states([n, 5, 18], 40, torch.bfloat16), s, config)
        assert (kept == -1).all()
    states = hidden_states([4, 5, 6], 40, torch.bfloat16)
    states[1][2, 3] = math.nan
    launch_correlation(states, s, config)
    assert (kept == -1).all()
    assert s.isnan().sum() == 5
    assert s[1].isnan().all()


def test_the_choice_runs() -> None:
    for lengths, hidden in (([3, 4], 70), ([150, 90], 16), ([0, 0], 16)):
        states = hidden_states(lengths, hidden, torch.bfloat16)
        assert (correlation_cosine(states).double() - correlations(states)).abs().max() <= CORRELATION_TOLERANCE
