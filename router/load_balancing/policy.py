"""The base class of all load-balancing policies."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from router.load_balancing.prompt_prefix import PromptPrefix
from router.workers.worker import Worker


class Policy(ABC):
    """Chooses a worker for each request.

    There is one instance for each role (prefill, decode); it serves all models. It may keep state about workers, but
    only with weak references (`WeakKeyDictionary`), so that a worker which leaves the registry is forgotten.
    """

    @abstractmethod
    def choose(self, workers: Sequence[Worker], prefix: PromptPrefix | None = None) -> Worker:
        """Choose one of `workers`. Called once for each request, so it should take microseconds.

        Args:
            workers: The workers of one model and role that may get the request, never empty. `Worker.load` is the
                number of requests in flight on a worker.
            prefix: The prompt, or None if it is not known.
        """
