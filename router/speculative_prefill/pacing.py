"""When a segment is worth sending.

A segment of n new tokens keeps the prefill server busy for about `fixed + n * per_token` seconds. It
takes `n * per_token` off the way between an upstream's last token and the dependent's first, and its
price is `fixed`, paid by the requests that wait meanwhile. With others about it saves more than it
costs from `fixed / per_token` tokens on, both learned from the segments themselves.

On an idle server the price is paid only by who comes while a segment runs, the dependent's own final
request included, and by an upstream that decodes on the same GPU, which each segment takes 15 to 20 ms.
Waiting until n tokens have gathered costs at most `n * per_token` at the end; 15% of `fixed` are hardly
noticed there, and keep the server free most of the time. There no segment waits for more than 64 tokens,
up to which a pass takes a GPU hardly longer, nor, above the least, for more than 1% of the prompt. What is
left at the end are the words that close the prompt, what waits and what is under way, and it shall stay
below 5% of a prompt of some hundred tokens too.
"""

START_TOKENS = 64  # tokens, until two sizes were seen
MIN_TOKENS, MAX_TOKENS = 8, 2048  # tokens
IDLE, IDLE_MOST, IDLE_SHARE = 0.15, 64, 0.01  # on an idle server: of `fixed / per_token`, tokens, of the prompt
HISTORY_WEIGHT = 0.9  # weight of the past at each observation


class SegmentPacer:
    """Learns one pair's costs by least squares over recent segments, older ones counting less."""

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        """Take one segment's new tokens and the seconds until it was ready on both servers."""
        seen = (1.0, tokens, seconds, tokens * tokens, tokens * seconds)
        past = (self._n, self._x, self._y, self._xx, self._xy)
        self._n, self._x, self._y, self._xx, self._xy = (
            HISTORY_WEIGHT * a + b for a, b in zip(past, seen, strict=True)
        )

    def min_tokens(self, prompt: int, *, busy: bool) -> int:
        """The fewest new tokens of a prompt of so many that are worth a segment.

        Args:
            prompt: Tokens of the whole prompt so far.
            busy: Whether the server has other prefills.
        """
        even = self._even()
        if even is None:
            return START_TOKENS
        return round(max(even if busy else min(IDLE * even, IDLE_MOST, IDLE_SHARE * prompt), MIN_TOKENS))

    def _even(self) -> float | None:
        """Tokens of a segment that saves as much as it costs; None until two sizes were seen."""
        spread = self._n * self._xx - self._x * self._x
        if spread <= 1e-9 * self._xx:
            return None
        per_token = (self._n * self._xy - self._x * self._y) / spread
        fixed = (self._y - per_token * self._x) / self._n
        # Where size did not matter, be it by noise, every segment is all fixed cost.
        return min(fixed / per_token, MAX_TOKENS) if per_token > 0 else MAX_TOKENS
