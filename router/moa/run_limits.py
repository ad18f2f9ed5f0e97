"""How many runs at once: of all clients, and of each."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from router.config.flags import flag
from router.early_exit import BUILTIN_MODEL
from router.errors import TooManyRuns


@dataclass(frozen=True)
class RunSettings:
    """How many runs are let in, and what judges their answers."""

    total: int = flag("--max-runs", default=256, minimum=1, help_text="most runs of trees at once")
    per_client: int = flag("--max-runs-per-client", default=64, minimum=1, help_text="the same of one client")
    embedding_model: str = flag(
        "--embedding-model",
        default=BUILTIN_MODEL,
        help_text="what early exit embeds answers with: a folder or a hub's name",
    )


class RunLimits:
    """Counts runs under way."""

    def __init__(self, settings: RunSettings) -> None:
        self._total = settings.total
        self._per_client = settings.per_client
        self._running: Counter[str] = Counter()

    @property
    def running(self) -> int:
        """Runs under way."""
        return self._running.total()

    @contextmanager
    def admit(self, client: str, runs: int = 1) -> Iterator[None]:
        """Count runs of a client while the block lasts; raises `TooManyRuns`."""
        mine = self._running[client]
        if mine + runs > self._per_client:
            words = f"you have {mine} runs under way of {self._per_client}; wait for one."
            raise TooManyRuns(words, retry_after=1.0)
        if self.running + runs > self._total:
            words = f"{self.running} runs are under way, and {self._total} is the most; try again later."
            raise TooManyRuns(words, retry_after=1.0)
        self._running[client] += runs
        try:
            yield
        finally:
            self._running[client] -= runs
            if not self._running[client]:
                del self._running[client]
