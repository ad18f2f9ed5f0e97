"""Device memory in which the programs of one launch meet; all words are UNWRITTEN before and after each launch.

Launches in one stream follow each other, so they share a workspace. A captured launch may be replayed in any stream,
at the same time as any other, so each has one of its own, for the life of the process: it comes from a reserve,
since memory cannot be filled while a graph is captured without becoming part of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qmetric.triton_kernels.shares import UNWRITTEN

_LEAST_WORDS = 1 << 14
_RESERVED_LAUNCHES = 256
_MAX_RESERVE = 1 << 24  # words: 64 MiB
_ALIGNMENT = 64  # words

_of_stream: dict[tuple[torch.device, int], Tensor] = {}
_reserve: dict[torch.device, Tensor] = {}


def workspace(device: torch.device, words: int) -> Tensor:
    """At least `words` words (int32) for a launch in the current stream of `device`.

    Raises RuntimeError where a graph is being captured and the reserve is used up.
    """
    words = -(-words // _ALIGNMENT) * _ALIGNMENT
    if device.type != "cuda":
        return _unwritten(words, device)
    if torch.cuda.is_current_stream_capturing():
        return _take(device, words)
    _fill_reserve(device, words)
    key = (device, torch.cuda.current_stream(device).cuda_stream)
    found = _of_stream.get(key)
    if found is None or found.numel() < words:
        found = _of_stream[key] = _unwritten(max(_LEAST_WORDS, 2 * words), device)
    return found


def _take(device: torch.device, words: int) -> Tensor:
    reserve = _reserve.get(device)
    if reserve is None or reserve.numel() < words:
        raise RuntimeError(
            "no workspace is left for correlation_cosine in a CUDA graph: "
            "call it once with this shape before the capture"
        )
    _reserve[device] = reserve[words:]
    return reserve[:words]


def _fill_reserve(device: torch.device, words: int) -> None:
    """Keep room for many captured launches of this size; new memory is filled before anything else goes on."""
    reserve = _reserve.get(device)
    wanted = max(words, min(_RESERVED_LAUNCHES * words, _MAX_RESERVE))
    if reserve is None or reserve.numel() < wanted // 2:
        _reserve[device] = _unwritten(wanted, device)
        torch.cuda.current_stream(device).synchronize()


def _unwritten(words: int, device: torch.device) -> Tensor:
    return torch.full((words,), UNWRITTEN, dtype=torch.int32, device=device)
