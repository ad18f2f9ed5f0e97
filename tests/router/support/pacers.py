"""A pacer for tests, in which what segments cost is mostly chance."""

from router.speculative_prefill.pacing import SegmentPacer


class FixedPacer(SegmentPacer):
    """Finds segments worth sending from so many tokens on, whatever they cost; more where others decode beside them."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self._least = tokens

    def _size_for_one(self) -> float:
        return self._least
