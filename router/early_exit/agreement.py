"""What runs ask of a judge of answers: the contract, apart from the process that fulfils it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class JudgeError(Exception):
    """The judge could not measure; one sentence says why. A run goes on without it."""


@dataclass(frozen=True)
class Agreement:
    """How much answers agree (`design.md` section 6).

    Attributes:
        C: Root mean square of the confidences.
        P: Mean similarity of the pairs, weighted by their confidences, in [-1, 1].
        B: How near P is to tau, in [0, 1].
        Q: C^gamma B^(1 - gamma), the probability to exit; NaN when a confidence or an embedding is.
        S: Similarity of each pair, in [-1, 1]; rows and columns in the order of the answers.
    """

    C: float
    P: float
    B: float
    Q: float
    S: list[list[float]]


class AgreementJudge(Protocol):
    """Whoever can tell how much answers agree."""

    async def agreement(
        self,
        texts: Sequence[str],
        confidences: Sequence[float],
        gamma: float = 0.5,
        tau: float = 0.7,
        m: int = 1,
        *,
        within: float = 10.0,
    ) -> Agreement:
        """Measure 2 to 64 answers of one cluster, each embedded in `m` equal chunks, in at most `within` seconds.

        Confidences are in [0, 1], or NaN where unknown. Raises JudgeFailed when it cannot, or not in time.
        """
        ...

    async def close(self) -> None:
        """Let go of everything it holds."""
        ...
