"""How sure an agent was of its answer, from the log-probabilities of the tokens it drew."""

import math
from collections.abc import Iterable, Sequence

ROUNDING = 1e-3  # servers compute log-probabilities in low precision: one just above 0 is 0
LEAST = 2.0**-126  # the smallest normal float32: what a mean too low for `exp` counts as


class Confidence:
    """The confidence of an answer whose tokens arrive one by one.

    Attributes:
        count: Tokens so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0.0

    def add(self, logprob: float) -> None:
        """Take the next token's natural log-probability; -inf is allowed.

        Raises ValueError for NaN and for values above 0 that rounding does not explain.
        """
        if not logprob <= ROUNDING:  # NaN too
            raise ValueError(
                f"token {self.count} has log-probability {logprob}, which no probability has: "
                "ask the server for natural log-probabilities"
            )
        self._sum += min(logprob, 0.0)
        self.count += 1

    def extend(self, logprobs: Iterable[float]) -> None:
        """Take several tokens; raises what `add` does, and then has taken those before the wrong one."""
        for logprob in logprobs:
            self.add(logprob)

    @property
    def value(self) -> float:
        """The confidence so far, exp(mean log-probability), in (0, 1]; raises ValueError without tokens."""
        if self.count == 0:
            raise ValueError("an answer without tokens has no confidence: wait for its first log-probability")
        return max(LEAST, math.exp(self._sum / self.count))


def confidence(logprobs: Sequence[float]) -> float:
    """The confidence c = exp(mean log-probability) of an answer, in (0, 1] (`design.md` section 6).

    `logprobs`: natural log-probabilities of the answer's tokens. Raises ValueError for none, NaN and positive ones.
    """
    whole = Confidence()
    whole.extend(logprobs)
    return whole.value
