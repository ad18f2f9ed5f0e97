"""Where requests wait while the only server of a role restarts, instead of failing."""

import asyncio

from router.errors import NoWorker
from router.workers.registry import Registry

POLL_SECONDS = 0.05


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
        self.waiting = 0

    async def wait(self, model: str) -> bool:
        """Wait while the model's workers restart; False when there is nothing to wait for.

        Raises:
            NoWorker: They were not back in time, or enough requests wait already.
        """
        if not self._registry.recovering(model):
            return False
        if self.waiting >= self._size:
            raise NoWorker(
                f"a server of the model {model!r} restarts, and {self.waiting} requests wait for it already;"
                " try again later.",
                retry_after=1.0,
            )
        self.waiting += 1
        try:
            async with asyncio.timeout(self._timeout):
                while self._registry.recovering(model):  # noqa: ASYNC110 - what makes it false has many causes
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise NoWorker(
                f"a server of the model {model!r} restarts and was not back within {self._timeout:g} s;"
                " try again later.",
                retry_after=1.0,
            ) from None
        finally:
            self.waiting -= 1
        return True
