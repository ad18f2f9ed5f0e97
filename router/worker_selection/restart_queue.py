"""Requests wait here while the only server of a role restarts, instead of failing.

Once the server answers probes again, the router lets it generate something, and sends it one of the waiting requests at
the same time. The others wait until one of the two has succeeded.
"""

import asyncio

from router.errors import NoWorker
from router.workers.registry import Registry
from router.workers.worker import Pair, Worker

POLL_SECONDS = 0.05


class Trial:
    """A request that is sent to restarted workers before they have generated anything. `end` must be called.

    It has no time limit: the router's own first generation, which has one, runs at the same time.
    """

    def __init__(self, registry: Registry, model: str, running: set[str]) -> None:
        self._registry = registry
        self._model = model
        self._running = running
        self._pair: Pair | None = None
        self._restarts = (0, 0)
        running.add(model)

    def begin(self, workers: tuple[Worker, ...]) -> None:
        """The request is sent to these workers."""
        if len(workers) == 2:
            self._pair = Pair(*workers)
            self._restarts = self._pair.restarts

    def end(self, *, generated: bool) -> None:
        """The request has ended; `generated` is True if the workers generated something for it."""
        self._running.discard(self._model)
        if generated and self._pair is not None:
            self._registry.mark_warmed_up(self._pair, self._restarts)


class RestartQueue:
    """Lets a bounded number of requests wait for the workers of their models.

    Args:
        registry: The workers.
        size: Requests that may wait at once; others fail at once.
        timeout: Seconds that one may wait.

    Attributes:
        waiting: Number of requests that wait.
    """

    def __init__(self, registry: Registry, size: int = 100, timeout: float = 60.0) -> None:
        self._registry = registry
        self._size = size
        self._timeout = timeout
        self._tried: set[str] = set()  # models whose workers a request tries
        self.waiting = 0

    def needed(self, model: str) -> bool:
        """Whether workers of the model are restarting."""
        return self._registry.recovering(model)

    async def wait(self, model: str, *, may_try: bool = False) -> Trial | None:
        """Return when the model's workers are usable, or at once where none of them is restarting.

        Returns:
            None, or with `may_try` a `Trial`, if the request is to try workers that have generated nothing yet.

        Raises:
            NoWorker: They were not back in time, or as many requests wait as may.
        """
        if not self.needed(model):
            return None
        if self.waiting >= self._size:
            raise NoWorker(
                f"a server of the model {model!r} restarts, and {self.waiting} requests wait for it already;"
                " try again later.",
                retry_after=1.0,
            )
        self.waiting += 1
        try:
            async with asyncio.timeout(self._timeout):
                while self._registry.recovering(model):
                    if may_try and model not in self._tried and self._registry.untried(model):
                        return Trial(self._registry, model, self._tried)
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise NoWorker(
                f"a server of the model {model!r} restarts and was not back within {self._timeout:g} s;"
                " try again later.",
                retry_after=1.0,
            ) from None
        finally:
            self.waiting -= 1
        return None
