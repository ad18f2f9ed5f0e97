"""Lists and watches the pods in the background, and retries after every failure."""

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

GONE = 410  # the status for a version that is too old to watch from
MIN_WATCH_SECS = 0.5  # a watch without events that ends earlier counts as failed


class PodWatcher:
    """Keeps the workers in step with the pods. While the API is unavailable, workers stay as they are.

    Args:
        settings: Which pods are workers.
        pod_workers: Applies the changes; closed with the watcher.
        metrics: Counts lists of pods, and failures.

    Attributes:
        problem: One sentence on why the pods are not being watched; None while they are.

    Raises:
        BadRequest: `kubernetes_asyncio` or all credentials are missing.
    """

    def __init__(self, settings: DiscoverySettings, pod_workers: PodWorkers, metrics: DiscoveryMetrics) -> None:
        credentials.check()
        self.problem: str | None = "the pods have not been listed yet."
        self._settings = settings
        self._pod_workers = pod_workers
        self._metrics = metrics
        self._tracker = PodTracker(settings)
        self._resource_version: str | None = None  # from which to watch; None if the pods must be listed
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start in the background."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; workers stay as they are."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._pod_workers.close()

    async def _run(self) -> None:
        while True:
            try:
                async with connected(self._settings) as api:
                    await self._list_and_watch(api)
            except ApiUnavailable as error:
                self._metrics.failed("unavailable")
                self._set_problem(str(error), logging.WARNING)
            except ApiRefused as error:
                self._resource_version = None
                if error.status != GONE:
                    self._metrics.failed("refused")
                # A resource version that is too old is normal after a long pause.
                self._set_problem(str(error), logging.INFO if error.status == GONE else logging.WARNING)
            except Exception:  # one unexpected response must not end discovery
                self._resource_version = None
                self._metrics.failed("unexpected")
                logger.exception("unexpected error while watching pods")
            self._failures += 1
            await asyncio.sleep(self._settings.backoff.backoff(self._failures))

    async def _list_and_watch(self, api: PodApi) -> None:
        """List the pods if needed, then watch them, renewing each watch that ends normally; raises as `PodApi`."""
        while True:
            version = self._resource_version or await self._list(api)
            started_at, got_events = time.monotonic(), False
            async with api.watch(version) as events:
                self._clear_problem()
                async for event_type, pod in events:
                    got_events = True
                    self._failures = 0
                    self._handle_event(event_type, pod)
            if not got_events and time.monotonic() - started_at < MIN_WATCH_SECS:
                raise ApiUnavailable("the Kubernetes API ends watches at once")
            self._failures = 0

    async def _list(self, api: PodApi) -> str:
        started_at = time.monotonic()
        pods, version = await api.list()
        for change in self._tracker.replace_all(pods):
            self._pod_workers.apply(change)
        self._metrics.listed(time.monotonic() - started_at)
        self._resource_version = version
        return version

    def _handle_event(self, event_type: str, pod: Pod) -> None:
        """Apply one event of a watch; a BOOKMARK has only a new resource version."""
        change: PodChange | None = None
        if event_type in {"ADDED", "MODIFIED"}:
            change = self._tracker.update(pod)
        elif event_type == "DELETED":
            change = self._tracker.delete(pod)
        if change is not None:
            self._pod_workers.apply(change)
        self._resource_version = pod["metadata"]["resourceVersion"]

    def _clear_problem(self) -> None:
        if self.problem is not None:
            self.problem = None
            logger.info("the pods are listed and watched")

    def _set_problem(self, problem: str, level: int) -> None:
        self.problem = f"{problem}."
        logger.log(level, "%s; workers stay as they are, and it is asked again", problem)
