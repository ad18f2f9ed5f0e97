"""What a Q-metric call returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class QMetric(NamedTuple):
    """Figures of a batch of clusters, all float32.

    `Q`: [B], the probability to exit. `C`: [B], root mean square of the confidences. `P`: [B], confidence-weighted
    mean similarity of the pairs. `S`: [B, N, N], the similarities, or None when they were not asked for.
    """

    Q: Tensor
    C: Tensor
    P: Tensor
    S: Tensor | None = None
