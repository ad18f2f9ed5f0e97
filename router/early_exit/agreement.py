"""How much the answers of a cluster agree (the Q-metric), and the interface of what measures it.

The formulas are those of Faster-MoA (arXiv 2512.18126, Algorithm 1), for the N answers of a cluster:

    c_i   exp(mean token log-probability) of answer i, in (0, 1]
    C     sqrt(mean_i c_i^2)
    S_ij  <E_i, E_j> / (|E_i| |E_j|), the Frobenius cosine of the embeddings E_i [m, d]
    P     sum_{i<j} c_i c_j S_ij / sum_{i<j} c_i c_j
    B     max(0, 1 - |P - tau| / max(tau, 1 - tau))
    Q     C^gamma B^(1 - gamma); with gamma = 0.5 the paper's sqrt(C B)

Two things differ from the paper: an answer is embedded by a sentence-embedding model, as m pooled vectors (one for
each of m equal chunks), where the paper takes token-level hidden states; and P sums over pairs i < j, where the
paper's sums include i = j. The similarity `correlation` is the paper's: with T_i the hidden states of the answer's
tokens, columns of norm 1, S_ij is the Frobenius cosine of T_i^T T_i and T_j^T T_j.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class JudgeError(Exception):
    """The judge could not measure; one sentence says why. The run goes on without it."""


@dataclass(frozen=True)
class Agreement:
    """The figures of N answers.

    Attributes:
        C: Root mean square of the confidences, in [0, 1].
        P: Mean similarity of the pairs, weighted by their confidences, in [-1, 1].
        B: How near P is to tau, in [0, 1].
        Q: The probability to exit, in [0, 1]; NaN when a confidence or an embedding is NaN.
        S: N x N similarities, in [-1, 1], in the order of the answers.
    """

    C: float
    P: float
    B: float
    Q: float
    S: list[list[float]]


class AgreementJudge(Protocol):
    """Measures how much answers agree."""

    async def agreement(
        self,
        texts: Sequence[str],
        confidences: Sequence[float],
        gamma: float = 0.5,
        tau: float = 0.7,
        m: int = 1,
        similarity: str = "pooled",
        *,
        within: float = 10.0,
    ) -> Agreement:
        """Measure 2 to 64 answers of one cluster, each embedded in `m` equal chunks, in at most `within` seconds.

        With the `similarity` "correlation" answers are compared by the correlation matrices of their hidden states.

        Confidences are in [0, 1], or NaN where unknown. Raises `JudgeError` when it fails or takes too long.
        """
        ...

    async def close(self) -> None:
        """Release all resources."""
        ...


def balance(p: float, tau: float) -> float:
    """B = max(0, 1 - |P - tau| / max(tau, 1 - tau)), in [0, 1]; NaN when P is NaN."""
    if math.isnan(p):
        return p
    return max(0.0, 1.0 - abs(p - tau) / max(tau, 1.0 - tau))
