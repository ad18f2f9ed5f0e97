"""Checks of the arguments; each error is one sentence: what was wrong and what to do.

A wrong dtype is a `TypeError`; a wrong shape, device, layout or number a `ValueError`.
Only shapes, dtypes and devices are checked: to read values, the host would have to wait for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import gt

import torch
from torch import Tensor

MAX_ANSWERS = 64
MAX_HIDDEN = 16384
_MAX_ELEMENTS = 1 << 31
_EMBEDDING_TYPES = (torch.bfloat16, torch.float16, torch.float32)


def check_embeddings(embeddings: Tensor) -> None:
    """Embeddings must be [B, N, m, d], bf16, fp16 or fp32, 1 <= N <= 64."""
    if embeddings.dim() != 4:
        raise ValueError(
            f"embeddings must be [batch, answers, m, d], got {list(embeddings.shape)}: "
            "one vector an answer is m = 1, embeddings.unsqueeze(2)"
        )
    if embeddings.dtype not in _EMBEDDING_TYPES:
        raise TypeError(f"embeddings must be bfloat16, float16 or float32, got {embeddings.dtype}: convert them")
    _, answers, chunks, size = embeddings.shape
    if not 1 <= answers <= MAX_ANSWERS:
        raise ValueError(f"a cluster has 1 to {MAX_ANSWERS} answers, embeddings have {answers}: split the cluster")
    if chunks < 1 or size < 1:
        raise ValueError(f"an embedding has at least one number, got m={chunks}, d={size}: drop empty answers by mask")


def check_states(states: Sequence[Tensor]) -> None:
    """Hidden states must be 1 to 64 tensors [n_i, h] of one dtype and device, 1 <= h <= 16384."""
    if not 1 <= len(states) <= MAX_ANSWERS:
        raise ValueError(f"a cluster has 1 to {MAX_ANSWERS} answers, there are {len(states)}: split the cluster")
    first = states[0]
    if first.dtype not in _EMBEDDING_TYPES:
        raise TypeError(f"hidden states must be bfloat16, float16 or float32, got {first.dtype}: convert them")
    for x in states:
        if x.dim() != 2 or x.shape[1] != first.shape[-1]:
            raise ValueError(f"hidden states must be [tokens, h] with one h, got {list(x.shape)}: reshape them")
        if x.dtype != first.dtype:
            raise TypeError(f"hidden states must have one dtype, got {first.dtype} and {x.dtype}: convert them")
        if x.device != first.device:
            raise ValueError(f"hidden states are on {first.device} and {x.device}: move them to one device")
        if x.shape[0] * x.shape[1] >= _MAX_ELEMENTS:
            raise ValueError(f"an answer has fewer than 2^31 numbers, got {list(x.shape)}: cut its tokens")
    if not 1 <= first.shape[1] <= MAX_HIDDEN:
        raise ValueError(f"a hidden state has 1 to {MAX_HIDDEN} numbers, got {first.shape[1]}: project it")


def check_offsets(offsets: Sequence[int], rows: int) -> None:
    """Offsets must rise from 0 to the number of rows."""
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != rows or any(map(gt, offsets, offsets[1:])):
        raise ValueError(f"offsets must rise from 0 to the {rows} rows of the hidden states: they mark the answers")


def check_mask(mask: Tensor | None, embeddings: Tensor) -> None:
    """A mask must be bool [B, N] on the embeddings' device."""
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be bool, got {mask.dtype}: pass mask.bool()")
    check_shape_and_device("mask", mask, embeddings, embeddings.shape[:2])


def check_confidences(confidences: Tensor, embeddings: Tensor) -> None:
    """Confidences must be floating [B, N] on the embeddings' device."""
    if confidences.dtype not in _EMBEDDING_TYPES:
        raise TypeError(f"confidences must be float32, bfloat16 or float16, got {confidences.dtype}: convert them")
    check_shape_and_device("confidences", confidences, embeddings, embeddings.shape[:2])


def check_parameters(gamma: float, tau: float) -> None:
    """Gamma and tau must be in [0, 1]."""
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma must be in [0, 1], got {gamma}: it is the weight of confidence against agreement")
    if not 0.0 <= tau <= 1.0:
        raise ValueError(f"tau must be in [0, 1], got {tau}: it is the agreement at which B is largest")


def check_out(name: str, out: Tensor, embeddings: Tensor, shape: tuple[int, ...]) -> None:
    """An output must be a contiguous float32 tensor of `shape` on the embeddings' device."""
    if out.dtype != torch.float32:
        raise TypeError(f"out {name} must be float32, got {out.dtype}: allocate it with torch.float32")
    check_shape_and_device(f"out {name}", out, embeddings, shape)
    if not out.is_contiguous():
        raise ValueError(f"out {name} must be contiguous, its strides are {out.stride()}: pass a fresh tensor")


def check_shape_and_device(name: str, tensor: Tensor, embeddings: Tensor, shape: tuple[int, ...]) -> None:
    """A tensor must have this shape and be on the embeddings' device."""
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} must be {list(shape)} for these embeddings, got {list(tensor.shape)}: reshape it")
    if tensor.device != embeddings.device:
        raise ValueError(f"{name} is on {tensor.device}, the embeddings on {embeddings.device}: move one of them")
