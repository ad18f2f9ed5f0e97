"""Decides how many new tokens make a segment worth sending.

A segment of n new tokens occupies the prefill server for about `fixed + n * per_token` seconds. It takes
`n * per_token` off the dependent's time to first token. It costs `fixed`, which the requests that wait meanwhile pay.
On a busy server a segment pays off from the break-even size `fixed / per_token` on; both are learned from the
segments themselves.

On an idle server only three pay: requests that arrive while a segment runs, among them the dependent's own final
request, and an upstream that decodes on the same GPU, where a segment takes it 15 to 20 ms. Waiting for n tokens
costs at most `n * per_token` at the end. So segments are smaller there:

- 15% of the break-even size: hardly noticed at the end, and the server stays free most of the time;
- at most 64 tokens, up to which a forward pass takes a GPU hardly longer;
- at most 1% of the prompt. What is left to prefill at the end (the literal that closes the prompt, the tokens that
  wait, and the segment under way) should stay below 5%, also of a prompt of some hundred tokens.
"""

START_TOKENS = 64  # until segments of two sizes were observed
MIN_TOKENS, MAX_TOKENS = 8, 2048
IDLE_FACTOR = 0.15  # on an idle server: of the break-even size
IDLE_MAX_TOKENS = 64
IDLE_MAX_SHARE = 0.01  # of the prompt
HISTORY_WEIGHT = 0.9  # of past segments at each observation


class SegmentPacer:
    """Learns the costs of one model's segments by least squares, with older segments weighing less."""

    def __init__(self) -> None:
        # Weighted sums over the observed segments: 1, tokens, seconds, tokens^2, tokens * seconds.
        self._count = self._tokens = self._seconds = self._tokens_squared = self._tokens_seconds = 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        """Take one segment's new tokens and the seconds until it was on both servers."""
        self._count = HISTORY_WEIGHT * self._count + 1.0
        self._tokens = HISTORY_WEIGHT * self._tokens + tokens
        self._seconds = HISTORY_WEIGHT * self._seconds + seconds
        self._tokens_squared = HISTORY_WEIGHT * self._tokens_squared + tokens * tokens
        self._tokens_seconds = HISTORY_WEIGHT * self._tokens_seconds + tokens * seconds

    def min_tokens(self, prompt: int, *, busy: bool) -> int:
        """The fewest new tokens that are worth a segment.

        Args:
            prompt: Tokens of the whole prompt so far.
            busy: Whether the server has other prefills.
        """
        size = self._break_even_tokens()
        if size is None:
            return START_TOKENS
        if not busy:
            size = min(IDLE_FACTOR * size, IDLE_MAX_TOKENS, IDLE_MAX_SHARE * prompt)
        return round(max(size, MIN_TOKENS))

    def _break_even_tokens(self) -> float | None:
        """Tokens of a segment that saves as much as it costs; None until segments of two sizes were observed."""
        variance = self._count * self._tokens_squared - self._tokens * self._tokens
        if variance <= 1e-9 * self._tokens_squared:
            return None
        per_token = (self._count * self._tokens_seconds - self._tokens * self._seconds) / variance
        fixed = (self._seconds - per_token * self._tokens) / self._count
        # Where size made no difference, if only by noise, all cost is fixed cost.
        return min(fixed / per_token, MAX_TOKENS) if per_token > 0 else MAX_TOKENS
