"""What a policy promises."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from router.load_balancing.prefix import PromptPrefix
from router.workers.worker import Worker


class Policy(ABC):
    """Chooses one of the healthy workers of one model and role.

    An instance serves one role and all models. It may learn from what it chose, and it keeps nothing
    of a worker that nobody else holds any more, so that leaving the registry is enough to be forgotten.
    """

    @abstractmethod
    def choose(self, workers: Sequence[Worker], prefix: PromptPrefix | None = None) -> Worker:
        """One of `workers`, which are never empty; `prefix` is the request's prompt where it is known."""
