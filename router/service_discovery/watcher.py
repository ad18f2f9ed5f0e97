"""Lists the pods, watches what happens to them, and does not give up."""

import asyncio
import logging
import time

from router.service_discovery import credentials
from router.service_discovery.metrics import DiscoveryMetrics
from router.service_discovery.pod_api import ApiRefused, ApiUnavailable, PodApi, connected
from router.service_discovery.pod_workers import PodWorkers
from router.service_discovery.pods import Pod, PodChange, PodTracker
from router.service_discovery.settings import DiscoverySettings

logger = logging.getLogger(__name__)

BRIEF = 0.5  # seconds; a watch that ends earlier with nothing in it did not go well


class PodWatcher:
    """Keeps the roster at what the pods are; while the API is away, workers stay as they are.

    Args:
        settings: Which pods are workers.
        roster: Follows what is found, and is closed in the end.
        metrics: Counts lists.

    Attributes:
        problem: One sentence on why it is not known what happens to the pods now; None when it is.

    Raises:
        BadRequest: The library or any credentials are missing.
    """

    def __init__(self, settings: DiscoverySettings, roster: PodWorkers, metrics: DiscoveryMetrics) -> None:
        credentials.check()
        self.problem: str | None = "the pods have not been listed yet."
        self._settings = settings
        self._roster = roster
        self._metrics = metrics
        self._pods = PodTracker(settings)
        self._version: str | None = None  # from which to watch; None when the pods must be listed
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the background."""
        self._task = asyncio.create_task(self._forever())

    async def close(self) -> None:
        """End; workers stay."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._roster.close()

    async def _forever(self) -> None:
        while True:
            try:
                async with connected(self._settings) as api:
                    await self._follow(api)
            except ApiUnavailable as error:
                self._failed(str(error), logging.WARNING)
            except ApiRefused as error:
                self._version = None
                # Too old a version is nothing to worry about: a watch that slept for long has it.
                self._failed(str(error), logging.INFO if error.status == 410 else logging.WARNING)
            except Exception:  # one odd answer must not be the end of discovery
                self._version = None
                logger.exception("unexpected error while watching pods")
            self._failures += 1
            await asyncio.sleep(self._settings.backoff.backoff(self._failures))

    async def _follow(self, api: PodApi) -> None:
        """Watch, and watch again when a watch ends in order; raises as `PodApi`."""
        while True:
            version = self._version or await self._list(api)
            began, heard = time.monotonic(), False
            async with api.watch(version) as events:
                self._well()
                async for kind, pod in events:
                    heard = True
                    self._failures = 0
                    self._take(kind, pod)
            if not heard and time.monotonic() - began < BRIEF:
                raise ApiUnavailable("the Kubernetes API ends watches at once")
            self._failures = 0

    async def _list(self, api: PodApi) -> str:
        began = time.monotonic()
        pods, version = await api.list()
        for change in self._pods.all(pods):
            self._roster.apply(change)
        self._metrics.listed(time.monotonic() - began)
        self._version = version
        return version

    def _take(self, kind: str, pod: Pod) -> None:
        """One event; of a bookmark only the version matters."""
        change: PodChange | None = None
        if kind in {"ADDED", "MODIFIED"}:
            change = self._pods.seen(pod)
        elif kind == "DELETED":
            change = self._pods.gone(pod)
        if change is not None:
            self._roster.apply(change)
        self._version = pod["metadata"]["resourceVersion"]

    def _well(self) -> None:
        if self.problem is not None:
            self.problem = None
            logger.info("the pods are listed and watched")

    def _failed(self, problem: str, level: int) -> None:
        self.problem = f"{problem}."
        logger.log(level, "%s; workers stay as they are, and it is asked again", problem)
