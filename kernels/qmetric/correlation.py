"""Similarity of answers by their token-level hidden states, as in the paper's Algorithm 1."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from qmetric import reference
from qmetric.checks import check_offsets, check_out, check_states
from qmetric.ops import kernel_launcher_for

_library = torch.library.Library("qmetric", "FRAGMENT")
_library.define("correlation_cosine(Tensor[] states) -> Tensor")
_library.define("correlation_cosine_out(Tensor[] states, Tensor(a!) s) -> ()")


def correlation_cosine(
    states: Tensor | Sequence[Tensor], offsets: Sequence[int] | Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Pairwise similarities S of k answers by the correlation matrices of their hidden states.

    With T_i [n_i, h] the hidden states of answer i's tokens, each column divided by its norm, and C_i = T_i^T T_i:
    S_ij = <C_i, C_j>_F / (|C_i|_F |C_j|_F), in [0, 1]; S_ii is 1.

    `states`: the k tensors [n_i, h], or one [n_1 + ... + n_k, h] with `offsets`: k + 1 numbers (a tensor of them must
    be on the CPU) from 0 to the sum, at which the answers begin. bfloat16, float16 or float32, on a CPU or a CUDA GPU,
    1 <= k <= 64, n_i >= 0, 1 <= h <= 16384; contiguous, or copies are made. `out`: float32 [k, k], contiguous, written
    in place of a new tensor. Returns S, float32 [k, k].

    S_ij is 0 where an answer has no tokens, or zeros alone; a column of zeros stays zero. A NaN or infinity makes its
    answer's row and column NaN. Norms of columns must be between 1e-15 and 1e18. The error is below 1e-3; on a GPU,
    float32 is rounded to bfloat16.

    Up to 10 answers on a GPU are one launch on the current stream that writes neither [h, h] nor [n, n] matrices;
    more run in plain torch. It does not wait for the device and can be captured in a CUDA graph once a call of the
    same shape has compiled it: lengths and addresses are then those of the capture. Not differentiable.

    Raises ValueError for a wrong shape, device or offsets and TypeError for a wrong dtype.
    """
    parts = list(states) if not isinstance(states, Tensor) else _split(states, offsets)
    if not isinstance(states, Tensor) and offsets is not None:
        raise ValueError("offsets belong to one tensor of all answers: leave them out with a list")
    if not parts:
        check_states(parts)
    if out is None:
        result: Tensor = torch.ops.qmetric.correlation_cosine.default(parts)
        return result
    torch.ops.qmetric.correlation_cosine_out.default(parts, out)
    return out


def _split(states: Tensor, offsets: Sequence[int] | Tensor | None) -> list[Tensor]:
    if offsets is None:
        raise ValueError("one tensor of all answers needs offsets: pass where each begins, or a list of tensors")
    if isinstance(offsets, Tensor):
        if offsets.device.type != "cpu":
            raise ValueError(f"offsets are on {offsets.device}, where reading them would wait: keep them on the CPU")
        offsets = offsets.tolist()
    if states.dim() != 2:
        raise ValueError(f"hidden states must be [tokens, h], got {list(states.shape)}: reshape them")
    check_offsets(offsets, states.shape[0])
    return [states[start:end] for start, end in itertools.pairwise(offsets)]


def _compute(states: list[Tensor], s: Tensor) -> None:
    if kernel_launcher_for(states[0]) is not None:
        # Imported late: a process on a CPU never loads Triton.
        from qmetric.triton_kernels.correlation_launcher import can_launch, launch_correlation

        if can_launch(states):
            launch_correlation([x.contiguous() for x in states], s)
            return
    s.copy_(reference.correlation(states))


def _correlation_cosine_fake(states: list[Tensor]) -> Tensor:
    check_states(states)
    return states[0].new_empty((len(states), len(states)), dtype=torch.float32)


def _correlation_cosine(states: list[Tensor]) -> Tensor:
    s = _correlation_cosine_fake(states)
    _compute(states, s)
    return s


def _correlation_cosine_out_fake(states: list[Tensor], s: Tensor) -> None:
    check_states(states)
    check_out("S", s, states[0], (len(states), len(states)))


def _correlation_cosine_out(states: list[Tensor], s: Tensor) -> None:
    _correlation_cosine_out_fake(states, s)
    _compute(states, s)


for _name, _run, _fake in (
    ("correlation_cosine", _correlation_cosine, _correlation_cosine_fake),
    ("correlation_cosine_out", _correlation_cosine_out, _correlation_cosine_out_fake),
):
    _library.impl(_name, _run, "CPU")
    _library.impl(_name, _run, "CUDA")
    torch.library.register_fake(f"qmetric::{_name}", _fake, lib=_library)
