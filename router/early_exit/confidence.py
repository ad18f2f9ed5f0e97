"""The confidence of an answer: exp(mean log-probability of its tokens), in (0, 1] (arXiv 2512.18126, Algorithm 1)."""

import math
from collections.abc import Iterable, Sequence

LOGPROB_TOLERANCE = 1e-3  # servers compute in low precision: a log-probability this little above 0 counts as 0
MIN_CONFIDENCE = 2.0**-126  # the smallest normal float32, for a mean so low that `exp` gives 0


class Confidence:
    """The confidence of an answer whose tokens arrive one by one.

    Attributes:
        count: Tokens so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0.0

    def add(self, logprob: float) -> None:
        """Add the next token's natural log-probability; -inf is allowed.

        Raises ValueError for NaN, and for values above 0 that rounding does not explain.
        """
        if not logprob <= LOGPROB_TOLERANCE:  # NaN too
            raise ValueError(
                f"token {self.count} has log-probability {logprob}, which no probability has: "
                "ask the server for natural log-probabilities"
            )
        self._sum += min(logprob, 0.0)
        self.count += 1

    def extend(self, logprobs: Iterable[float]) -> None:
        """Add several tokens; raises what `add` raises, after adding the tokens before the wrong one."""
        for logprob in logprobs:
            self.add(logprob)

    @property
    def value(self) -> float:
        """The confidence so far, in (0, 1]; raises ValueError without tokens."""
        if self.count == 0:
            raise ValueError("an answer without tokens has no confidence: wait for its first log-probability")
        return max(MIN_CONFIDENCE, math.exp(self._sum / self.count))


def confidence(logprobs: Sequence[float]) -> float:
    """The confidence of an answer, in (0, 1], from the natural log-probabilities of its tokens.

    Raises ValueError for no tokens, NaN, and positive log-probabilities.
    """
    whole = Confidence()
    whole.extend(logprobs)
    return whole.value
