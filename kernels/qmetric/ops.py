"""The PyTorch operators `torch.ops.qmetric.*`: schemas, output shapes for tracing, and what runs them.

They are defined through `torch.library.Library`, whose dispatch costs a few microseconds less than the
`custom_op` decorator's, and work under `torch.compile`, in CUDA graphs and on fake tensors. They have no gradient.
"""

from __future__ import annotations

import functools
import os
from types import ModuleType

import torch
from torch import Tensor

from qmetric import reference
from qmetric.checks import check_confidences, check_embeddings, check_mask, check_out, check_parameters

# Triton's interpreter runs the kernels on CPU tensors: how their code is tested without a GPU.
_INTERPRET = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "y", "yes")
_MIN_CAPABILITY = (8, 0)  # matrix instructions on bf16 and tf32

_library = torch.library.Library("qmetric", "DEF")
_INPUTS = "Tensor embeddings, Tensor confidences, Tensor? mask, float gamma, float tau"
_library.define("frobenius_cosine(Tensor embeddings, Tensor? mask) -> Tensor")
_library.define("frobenius_cosine_out(Tensor embeddings, Tensor? mask, Tensor(a!) s) -> ()")
_library.define(f"q_metric({_INPUTS}) -> (Tensor, Tensor, Tensor)")
_library.define(f"q_metric_with_similarity({_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor)")
_library.define(f"q_metric_out({_INPUTS}, Tensor(a!) q, Tensor(b!) c, Tensor(c!) p, Tensor(d!)? s) -> ()")


def kernel_launcher_for(tensor: Tensor) -> ModuleType | None:
    """The module that launches Triton kernels on the tensor's device, or None where plain torch does the work."""
    if tensor.is_cuda:
        return _cuda_launcher(tensor.device.index)
    return _import_launcher() if _INTERPRET else None


@functools.cache
def _cuda_launcher(index: int) -> ModuleType | None:
    if torch.version.hip is not None or torch.cuda.get_device_capability(index) < _MIN_CAPABILITY:
        return None
    return _import_launcher()


@functools.cache
def _import_launcher() -> ModuleType:
    # Imported late: a process on a CPU never loads Triton.
    from qmetric.triton_kernels import launcher

    return launcher


def _check(embeddings: Tensor, confidences: Tensor, mask: Tensor | None, gamma: float, tau: float) -> None:
    check_embeddings(embeddings)
    check_confidences(confidences, embeddings)
    check_mask(mask, embeddings)
    check_parameters(gamma, tau)


def _compute_similarity(embeddings: Tensor, mask: Tensor | None, s: Tensor) -> None:
    launcher = kernel_launcher_for(embeddings)
    if launcher is None:
        s.copy_(reference.similarity(embeddings, mask))
    else:
        mask = None if mask is None else mask.contiguous()
        launcher.launch_metric(embeddings.contiguous(), mask, None, 0.0, 0.0, s)


def _compute_metric(
    embeddings: Tensor,
    confidences: Tensor,
    mask: Tensor | None,
    gamma: float,
    tau: float,
    q: Tensor,
    c: Tensor,
    p: Tensor,
    s: Tensor | None,
) -> None:
    launcher = kernel_launcher_for(embeddings)
    if launcher is None:
        similarity = reference.similarity(embeddings, mask)
        for out, value in zip((q, c, p), reference.scores(similarity, confidences, mask, gamma, tau), strict=True):
            out.copy_(value)
        if s is not None:
            s.copy_(similarity)
    else:
        mask = None if mask is None else mask.contiguous()
        launcher.launch_metric(embeddings.contiguous(), mask, confidences.contiguous(), gamma, tau, s, q, c, p)


def empty_similarity(embeddings: Tensor) -> Tensor:
    """An unwritten S for these embeddings."""
    batch, answers = embeddings.shape[:2]
    return embeddings.new_empty((batch, answers, answers), dtype=torch.float32)


def _empty_scores(embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    size = (embeddings.shape[0],)
    q = embeddings.new_empty(size, dtype=torch.float32)
    return q, torch.empty_like(q), torch.empty_like(q)


def _frobenius_cosine(embeddings: Tensor, mask: Tensor | None) -> Tensor:
    check_embeddings(embeddings)
    check_mask(mask, embeddings)
    s = empty_similarity(embeddings)
    _compute_similarity(embeddings, mask, s)
    return s


def _frobenius_cosine_out(embeddings: Tensor, mask: Tensor | None, s: Tensor) -> None:
    _frobenius_cosine_out_fake(embeddings, mask, s)
    _compute_similarity(embeddings, mask, s)


def _q_metric(
    embeddings: Tensor, confidences: Tensor, mask: Tensor | None, gamma: float, tau: float
) -> tuple[Tensor, Tensor, Tensor]:
    _check(embeddings, confidences, mask, gamma, tau)
    q, c, p = _empty_scores(embeddings)
    _compute_metric(embeddings, confidences, mask, gamma, tau, q, c, p, None)
    return q, c, p


def _q_metric_with_similarity(
    embeddings: Tensor, confidences: Tensor, mask: Tensor | None, gamma: float, tau: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check(embeddings, confidences, mask, gamma, tau)
    q, c, p = _empty_scores(embeddings)
    s = empty_similarity(embeddings)
    _compute_metric(embeddings, confidences, mask, gamma, tau, q, c, p, s)
    return q, c, p, s


def _q_metric_out(
    embeddings: Tensor,
    confidences: Tensor,
    mask: Tensor | None,
    gamma: float,
    tau: float,
    q: Tensor,
    c: Tensor,
    p: Tensor,
    s: Tensor | None,
) -> None:
    _q_metric_out_fake(embeddings, confidences, mask, gamma, tau, q, c, p, s)
    _compute_metric(embeddings, confidences, mask, gamma, tau, q, c, p, s)


def _frobenius_cosine_fake(embeddings: Tensor, mask: Tensor | None) -> Tensor:
    check_embeddings(embeddings)
    check_mask(mask, embeddings)
    return empty_similarity(embeddings)


def _frobenius_cosine_out_fake(embeddings: Tensor, mask: Tensor | None, s: Tensor) -> None:
    check_embeddings(embeddings)
    check_mask(mask, embeddings)
    batch, answers = embeddings.shape[:2]
    check_out("S", s, embeddings, (batch, answers, answers))


def _q_metric_fake(
    embeddings: Tensor, confidences: Tensor, mask: Tensor | None, gamma: float, tau: float
) -> tuple[Tensor, Tensor, Tensor]:
    _check(embeddings, confidences, mask, gamma, tau)
    return _empty_scores(embeddings)


def _q_metric_with_similarity_fake(
    embeddings: Tensor, confidences: Tensor, mask: Tensor | None, gamma: float, tau: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check(embeddings, confidences, mask, gamma, tau)
    return (*_empty_scores(embeddings), empty_similarity(embeddings))


def _q_metric_out_fake(
    embeddings: Tensor,
    confidences: Tensor,
    mask: Tensor | None,
    gamma: float,
    tau: float,
    q: Tensor,
    c: Tensor,
    p: Tensor,
    s: Tensor | None,
) -> None:
    _check(embeddings, confidences, mask, gamma, tau)
    batch, answers = embeddings.shape[:2]
    for name, out in (("Q", q), ("C", c), ("P", p)):
        check_out(name, out, embeddings, (batch,))
    if s is not None:
        check_out("S", s, embeddings, (batch, answers, answers))


for _name, _run, _fake in (
    ("frobenius_cosine", _frobenius_cosine, _frobenius_cosine_fake),
    ("frobenius_cosine_out", _frobenius_cosine_out, _frobenius_cosine_out_fake),
    ("q_metric", _q_metric, _q_metric_fake),
    ("q_metric_with_similarity", _q_metric_with_similarity, _q_metric_with_similarity_fake),
    ("q_metric_out", _q_metric_out, _q_metric_out_fake),
):
    _library.impl(_name, _run, "CPU")
    _library.impl(_name, _run, "CUDA")
    torch.library.register_fake(f"qmetric::{_name}", _fake, lib=_library)
