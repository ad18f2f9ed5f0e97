"""The incremental form: clusters whose answers arrive one by one.

After k answers the similarities of all k (k - 1) / 2 pairs are known; the next answer adds one row. `ClusterState`
keeps the embeddings and S on the device and `extend` computes that row, and Q over all answers so far, in one launch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qmetric import reference
from qmetric.api import q_metric
from qmetric.checks import (
    MAX_ANSWERS,
    check_confidences,
    check_embeddings,
    check_mask,
    check_parameters,
    check_shape_and_device,
)
from qmetric.ops import kernel_launcher_for
from qmetric.result import QMetric

_library = torch.library.Library("qmetric", "FRAGMENT")
_library.define(
    "extend(Tensor(a!) embeddings, Tensor(b!) confidences, Tensor(c!) mask, Tensor(d!) similarity, Tensor embedding, "
    "Tensor confidence, Tensor? valid, int count, float gamma, float tau, "
    "Tensor(e!) q, Tensor(f!) c, Tensor(g!) p) -> ()"
)


class ClusterState:
    """B clusters that grow together, each up to `capacity` answers.

    `embeddings` [B, capacity, m, d], `confidences` float32 [B, capacity], `mask` bool [B, capacity] and `similarity`
    float32 [B, capacity, capacity] hold the answers; only the first `count` of each cluster are meaningful.

    Raises ValueError for sizes outside 1 <= capacity <= 64, m, d >= 1, gamma or tau outside [0, 1], and TypeError for
    a dtype that `frobenius_cosine` does not take.
    """

    def __init__(
        self,
        batch: int,
        capacity: int,
        m: int,
        d: int,
        *,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
        gamma: float = 0.5,
        tau: float = 0.7,
    ) -> None:
        check_parameters(gamma, tau)
        self.gamma = gamma
        self.tau = tau
        self.count = 0
        self.embeddings = torch.zeros((batch, capacity, m, d), dtype=dtype, device=device)
        check_embeddings(self.embeddings)
        self.confidences = torch.zeros((batch, capacity), dtype=torch.float32, device=device)
        self.mask = torch.zeros((batch, capacity), dtype=torch.bool, device=device)
        self.similarity = torch.zeros((batch, capacity, capacity), dtype=torch.float32, device=device)
        self._scores = [torch.zeros(batch, dtype=torch.float32, device=device) for _ in range(3)]

    @classmethod
    def of(
        cls,
        embeddings: Tensor,
        confidences: Tensor,
        mask: Tensor | None = None,
        *,
        capacity: int = MAX_ANSWERS,
        gamma: float = 0.5,
        tau: float = 0.7,
    ) -> ClusterState:
        """A state that already holds embeddings [B, k, m, d] with confidences [B, k] and mask [B, k], k <= capacity.

        Raises what `q_metric` does, and ValueError where k is above the capacity.
        """
        check_embeddings(embeddings)
        batch, k, m, d = embeddings.shape
        if k > capacity:
            raise ValueError(f"{k} answers do not fit a capacity of {capacity}: raise it")
        state = cls(batch, capacity, m, d, dtype=embeddings.dtype, device=embeddings.device, gamma=gamma, tau=tau)
        result = q_metric(embeddings, confidences, mask, gamma, tau, return_similarity=True)
        state.embeddings[:, :k] = embeddings
        state.confidences[:, :k] = confidences
        state.mask[:, :k] = True if mask is None else mask
        state.similarity[:, :k, :k] = result.S
        for kept, value in zip(state._scores, result[:3], strict=True):
            kept.copy_(value)
        state.count = k
        return state

    def extend(self, embedding: Tensor, confidence: Tensor, valid: Tensor | None = None) -> QMetric:
        """Add each cluster's next answer: its row of S, and Q over all answers so far.

        `embedding`: [B, m, d] of the state's dtype. `confidence`: [B], float32, bfloat16 or float16. `valid`: bool
        [B], False where a cluster has no such answer; None means all have. Returns `QMetric` with Q, C, P [B] and S
        [B, count, count]; all four are views of the state that the next `extend` writes again. NaN, zero vectors and
        single answers are treated as in `q_metric`. One launch, no allocation, no wait for the device.

        Raises ValueError for a full state, a wrong shape or device, and TypeError for a wrong dtype.
        """
        if self.count == self.embeddings.shape[1]:
            raise ValueError(f"the clusters already have {self.count} answers: make the state with a larger capacity")
        q, c, p = self._scores
        torch.ops.qmetric.extend.default(
            self.embeddings,
            self.confidences,
            self.mask,
            self.similarity,
            embedding,
            confidence,
            valid,
            self.count,
            self.gamma,
            self.tau,
            q,
            c,
            p,
        )
        self.count += 1
        return QMetric(q, c, p, self.similarity[:, : self.count, : self.count])


def _extend_fake(
    embeddings: Tensor,
    confidences: Tensor,
    mask: Tensor,
    similarity: Tensor,
    embedding: Tensor,
    confidence: Tensor,
    valid: Tensor | None,
    count: int,
    gamma: float,
    tau: float,
    q: Tensor,
    c: Tensor,
    p: Tensor,
) -> None:
    batch, capacity, chunks, size = embeddings.shape
    if not 0 <= count < capacity:
        raise ValueError(f"answer {count} does not fit a capacity of {capacity}: make the state larger")
    if embedding.dtype != embeddings.dtype:
        raise TypeError(f"embedding must be {embeddings.dtype} like the state, got {embedding.dtype}: convert it")
    check_shape_and_device("embedding", embedding, embeddings, (batch, chunks, size))
    # One answer is a cluster of one: its embeddings are [B, 1, m, d].
    check_confidences(confidence.unsqueeze(1), embedding.unsqueeze(1))
    check_mask(None if valid is None else valid.unsqueeze(1), embedding.unsqueeze(1))


def _extend(
    embeddings: Tensor,
    confidences: Tensor,
    mask: Tensor,
    similarity: Tensor,
    embedding: Tensor,
    confidence: Tensor,
    valid: Tensor | None,
    count: int,
    gamma: float,
    tau: float,
    q: Tensor,
    c: Tensor,
    p: Tensor,
) -> None:
    _extend_fake(embeddings, confidences, mask, similarity, embedding, confidence, valid, count, gamma, tau, q, c, p)
    launcher = kernel_launcher_for(embeddings)
    if launcher is not None:
        launcher.launch_extend(
            embeddings,
            confidences,
            mask,
            similarity,
            embedding.contiguous(),
            confidence.contiguous(),
            None if valid is None else valid.contiguous(),
            count,
            gamma,
            tau,
            q,
            c,
            p,
        )
        return
    embeddings[:, count] = embedding
    confidences[:, count] = confidence
    mask[:, count] = True if valid is None else valid
    end = count + 1
    row = reference.last_similarity_row(embeddings[:, :end], mask[:, :end])
    similarity[:, count, :end] = row
    similarity[:, :end, count] = row
    values = reference.scores(similarity[:, :end, :end], confidences[:, :end], mask[:, :end], gamma, tau)
    for out, value in zip((q, c, p), values, strict=True):
        out.copy_(value)


_library.impl("extend", _extend, "CPU")
_library.impl("extend", _extend, "CUDA")
torch.library.register_fake("qmetric::extend", _extend_fake, lib=_library)
