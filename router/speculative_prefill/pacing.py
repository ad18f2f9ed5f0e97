"""Decides how many new tokens make a segment worth sending.

A segment of n new tokens occupies the prefill server for about `fixed + n * per_token` seconds. It takes
`n * per_token` off the dependent's time to first token. It costs `fixed`, which is paid by the requests that wait
meanwhile and by whoever decodes on the same GPU. So a segment pays off from the break-even size `fixed / per_token` on;
both are learned from the segments themselves.

`fixed` is paid once where one request waits or decodes, and many times where many decode on the prefill server's GPU:
each of them loses about half of the time that it takes. With 55 trees at once on one H200 that cost splice 6 to 9% of a
run. So the size grows with the requests that decode there, where servers tell which GPU they are on.

That also holds on a server without other requests. Segments of ten tokens there left fewer tokens to the end, but on
two H200 they made every decode beside them 5 to 15% slower, which cost a run 15 times what they saved. What waits for
the end costs at most `fixed` there: the time of one small segment.

Costs can only be told apart where sizes differ, and a streamed answer gives segments of the one size that is asked for.
So while they are too alike, segments of three sizes are asked for in turn.
"""

import time

TRIAL_TOKENS = (64, 128, 256)  # in turn, until the observed sizes differ
MIN_TOKENS, MAX_TOKENS = 8, 512
HISTORY_WEIGHT = 0.9  # of past segments at each observation
MIN_SPREAD = 0.1  # of their sizes: variance by squared mean; chance decides the slope where it is less
DECODE_SLOWDOWN = 0.5
"""What a decode beside a prefill loses of its speed: on an H200 0.3 with half of the GPU for each, 0.7 in turns."""
FORGET_SECONDS = 60.0
"""After so long without a segment the costs are learned anew: a wrong size that no prompt reaches would stay."""


class SegmentPacer:
    """Learns the costs of one model's segments by least squares, with older segments weighing less."""

    def __init__(self) -> None:
        # Weighted sums over the observed segments: 1, tokens, seconds, tokens^2, tokens * seconds.
        self._count = self._tokens = self._seconds = self._tokens_squared = self._tokens_seconds = 0.0
        self._observed_at = 0.0
        self._trial = 0

    def observe(self, tokens: int, seconds: float) -> None:
        """Take one segment's new tokens, hardly any of which should have been cached, and the seconds it took."""
        if self._is_outdated():
            self._count = self._tokens = self._seconds = self._tokens_squared = self._tokens_seconds = 0.0
            self._trial = 0
        self._observed_at = time.monotonic()
        self._trial = (self._trial + 1) % len(TRIAL_TOKENS)
        self._count = HISTORY_WEIGHT * self._count + 1.0
        self._tokens = HISTORY_WEIGHT * self._tokens + tokens
        self._seconds = HISTORY_WEIGHT * self._seconds + seconds
        self._tokens_squared = HISTORY_WEIGHT * self._tokens_squared + tokens * tokens
        self._tokens_seconds = HISTORY_WEIGHT * self._tokens_seconds + tokens * seconds

    def min_tokens(self, beside: int = 0) -> int:
        """The fewest new tokens that are worth a segment, where so many requests decode on the prefill server's GPU."""
        return round(self._size_for_one() * max(1.0, DECODE_SLOWDOWN * beside))

    def _size_for_one(self) -> float:
        if self._is_outdated():
            return TRIAL_TOKENS[0]  # the prompts of now might never reach a larger one
        size = self._break_even_tokens()
        return TRIAL_TOKENS[self._trial] if size is None else min(max(size, MIN_TOKENS), MAX_TOKENS)

    def _is_outdated(self) -> bool:
        return time.monotonic() - self._observed_at > FORGET_SECONDS

    def _break_even_tokens(self) -> float | None:
        """Tokens of a segment that saves as much as it costs; None while the observed ones are too alike to tell."""
        variance = self._count * self._tokens_squared - self._tokens * self._tokens
        if variance <= MIN_SPREAD * self._tokens * self._tokens:
            return None
        per_token = (self._count * self._tokens_seconds - self._tokens * self._seconds) / variance
        fixed = (self._seconds - per_token * self._tokens) / self._count
        # Where size made no difference, if only by noise, all cost is fixed cost.
        return fixed / per_token if per_token > 0 else MAX_TOKENS
