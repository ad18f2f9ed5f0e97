"""Fits how long a worker takes: least squares over what was seen of late.

A latency is taken to be a sum of five parts, each a coefficient times a feature:

| feature | coefficient |
|---|---|
| 1 for a prefill | seconds that any prefill takes |
| tokens to prefill, those that wait before it included | seconds a token |
| requests beside it, for a prefill | seconds a request |
| tokens decoded | seconds a token |
| tokens decoded times requests beside it | seconds a token and request |

So the time to a first token, the time from there to the end, and both together, where only that was seen, all teach
the same five numbers. Coefficients are kept as multiples of `USUAL`, and each observation counts by its relative error:
then one of half an hour spoils nothing.
"""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# Seconds, as of a model of ten billion parameters; where nothing was seen, only their proportions count.
USUAL: Vector = np.array([1e-2, 1e-4, 1e-3, 2e-2, 5e-4])
HALF_LIFE_SECS = 60.0  # of what was seen
HALF_LIFE_COUNT = 100  # observations
LEAST = 1e-3  # of a coefficient, as a multiple of the usual: none is negative
FLOOR_SECS = 0.01  # errors below count as of this latency
_COUNT_DECAY = 0.5 ** (1 / HALF_LIFE_COUNT)


def features(prefill_tokens: float, requests: float, answer_tokens: int, *, prefilled: bool) -> Vector:
    """The features of a latency that includes a prefill if `prefilled`, and so many decoded tokens."""
    prefill = float(prefilled)
    return np.array(
        [prefill, prefill * prefill_tokens, prefill * requests, answer_tokens, answer_tokens * requests], dtype=float
    )


class LatencyFit:
    """The five coefficients of one worker, or of a model's workers together; its size never grows.

    Args:
        trust: How many observations it takes to weigh as much as the anchor.
    """

    def __init__(self, trust: float) -> None:
        self._trust = trust
        self._gram: Vector = np.zeros((5, 5))
        self._moment: Vector = np.zeros(5)
        self._seen_at = 0.0

    def see(self, latency: float, seen: Vector, now: float) -> None:
        """Learn from a latency in seconds with these features."""
        scaled = seen * USUAL / (latency + FLOOR_SECS)
        decay = _COUNT_DECAY * self._aged(now)
        self._gram = decay * self._gram + np.outer(scaled, scaled)
        self._moment = decay * self._moment + scaled * (latency / (latency + FLOOR_SECS))
        self._seen_at = now

    def solve(self, anchor: Vector, now: float) -> Vector:
        """The coefficients, as multiples of `USUAL`; as far as nothing was seen of late, those of `anchor`."""
        aged = self._aged(now)
        gram = aged * self._gram + self._trust * np.eye(5)
        solved = np.linalg.solve(gram, aged * self._moment + self._trust * anchor)
        return np.asarray(solved.clip(min=LEAST), np.float64)

    def _aged(self, now: float) -> float:
        return float(0.5 ** (max(now - self._seen_at, 0.0) / HALF_LIFE_SECS))
