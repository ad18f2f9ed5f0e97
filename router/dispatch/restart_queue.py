"""Where requests wait while the only server of a role restarts, instead of failing.

Once the server answers again, one of them is sent to it at once, beside the router's own first generation; the others
wait until one of the two has succeeded.
"""

import asyncio
from typing import Literal

from router.errors import NoWorker
from router.workers.registry import Registry
from router.workers.worker import Pair, Worker

POLL_SECONDS = 0.05

Waited = Literal["for nothing", "until usable", "until back"]


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
        self._tried: set[str] = set()  # models whose servers one request tries
        self.waiting = 0

    async def wait(self, model: str, *, may_try: bool = False) -> Waited:
        """Wait while the model's workers restart.

        Returns:
            `for nothing`: There is nothing to wait for. `until usable`: They are. `until back`: The request is the one
            that tries them, which `may_try` allows; `end_trial` must be called.

        Raises:
            NoWorker: They were not back in time, or enough requests wait already.
        """
        if not self._registry.recovering(model):
            return "for nothing"
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
                        self._tried.add(model)
                        return "until back"
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise NoWorker(
                f"a server of the model {model!r} restarts and was not back within {self._timeout:g} s;"
                " try again later.",
                retry_after=1.0,
            ) from None
        finally:
            self.waiting -= 1
        return "until usable"

    def end_trial(self, model: str, workers: tuple[Worker, ...], *, generated: bool) -> None:
        """The request that tried workers has ended; `generated` tells that they served it."""
        self._tried.discard(model)
        if generated and len(workers) == 2 and (pair := Pair(*workers)) in self._registry.pairs():
            self._registry.mark_warmed_up(pair)
