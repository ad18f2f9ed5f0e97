"""One run as a line of the log."""

from typing import Any

import msgspec


class RunLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One run: one question through one arm.

    Attributes:
        benchmark, concurrency, question, arm: What was run; together its key.
        index: The question's place in the benchmark.
        session: Which start of the command ran it, from 1.
        at: When it ended, in seconds since the epoch.
        beside: How many runs of the arm began together with it, itself counted.
        latency_s: Seconds from the request to the whole answer, as the client sees it.
        texts: The final answers; of several the one that counts is `answers[chosen]`.
        answers: What the benchmark extracts from them.
        score: In [0, 1]; None where the benchmark has no right answers.
        lengths: Tokens that were asked for, by agent; empty where the models decided.
        run: The run's trace, as in `/runs/{id}`, without texts.
        error: Why there is no answer; such a run is repeated at the next start.
    """

    benchmark: str
    concurrency: int
    question: str
    arm: str
    index: int = 0
    session: int = 1
    at: float = 0.0
    beside: int = 1
    latency_s: float = 0.0
    texts: list[str] = []
    answers: list[str | None] = []
    chosen: int = 0
    score: float | None = None
    lengths: dict[str, int] = {}
    run: dict[str, Any] = {}
    error: str | None = None

    @property
    def key(self) -> tuple[str, int, str, str]:
        """What was run."""
        return self.benchmark, self.concurrency, self.question, self.arm
