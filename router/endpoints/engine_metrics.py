"""`/engine_metrics`: the workers' own metrics, joined."""

import asyncio
import time

from router.errors import NoWorker, UpstreamFailed, UpstreamTimeout
from router.http.client_request import ClientRequest
from router.http.disconnect import while_connected
from router.observability.prometheus import CONTENT_TYPE
from router.workers.all_workers import Outcome, ask_all
from router.workers.joined_metrics import join_metrics
from router.workers.registry import Registry
from router.workers.worker import Worker

SCRAPE_TIMEOUT = 5.0  # seconds for one worker
MAX_BYTES = 8 << 20  # of one worker's metrics
MAX_BYTES_OF_ALL = 64 << 20
FRESH_SECONDS = 1.0  # a scrape serves whoever asks within this time


class EngineMetricsEndpoint:
    """Asks all workers for their metrics. One scrape is under way at a time and serves all who ask meanwhile.

    Args:
        registry: The workers.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._scrape_task: asyncio.Task[bytes] | None = None
        self._fresh_until = 0.0

    async def engine_metrics(self, request: ClientRequest) -> None:
        """The metrics of all workers in one text; raises `NoWorker` if none gives any."""
        await request.body()
        await while_connected(request, self._answer(request))

    async def _answer(self, request: ClientRequest) -> None:
        text = await self._shared_scrape()
        await request.send_response(200, text, [(b"content-type", CONTENT_TYPE)])

    async def _shared_scrape(self) -> bytes:
        task = self._scrape_task
        if task is None or (task.done() and time.monotonic() > self._fresh_until):
            task = self._scrape_task = asyncio.create_task(self._scrape())
            task.add_done_callback(self._scraped)
        # Whoever leaves does not end it for the others; it ends by itself, with its workers' timeouts.
        return await asyncio.shield(task)

    def _scraped(self, task: asyncio.Task[bytes]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._forget(task)
            return
        self._fresh_until = time.monotonic() + FRESH_SECONDS
        asyncio.get_running_loop().call_later(FRESH_SECONDS, self._forget, task)

    def _forget(self, task: asyncio.Task[bytes]) -> None:
        if self._scrape_task is task:
            self._scrape_task = None

    async def _scrape(self) -> bytes:
        scrape = _Scrape()
        outcomes = await ask_all(self._registry.workers, scrape.fetch)
        if all(outcome.value is None for outcome in outcomes):
            reason = next((outcome.problem for outcome in outcomes), "there are no workers.")
            raise NoWorker(f"no worker gives metrics: {reason}", retry_after=1.0)
        # In a thread: the metrics of many workers would block the event loop for too long.
        return await asyncio.to_thread(_joined, outcomes)


def _joined(outcomes: list[Outcome[bytes]]) -> bytes:
    lines: list[str] = []
    texts: list[tuple[str, str | None, str]] = []
    for outcome in outcomes:
        worker = outcome.worker
        if outcome.value is None:
            lines.append(f"# {worker.url} is left out: {' '.join((outcome.problem or '').split())}")
        else:
            texts.append((worker.url, worker.model, outcome.value.decode(errors="replace")))
    return "\n".join([*lines, *join_metrics(texts), ""]).encode()


class _Scrape:
    """One scrape of all workers, whose bytes are counted together."""

    def __init__(self) -> None:
        self._left = MAX_BYTES_OF_ALL

    async def fetch(self, worker: Worker) -> bytes:
        """A worker's metrics.

        Raises:
            RouterError: It gives none, too many bytes, or not in time.
        """
        chunks: list[bytes] = []
        size = 0
        try:
            async with (
                asyncio.timeout(SCRAPE_TIMEOUT),
                await worker.origin.request("GET", "/metrics") as response,
            ):
                if response.status != 200:
                    raise UpstreamFailed(f"{worker.url} answered /metrics with {response.status}.")
                async for chunk in response.chunks():
                    size, self._left = size + len(chunk), self._left - len(chunk)
                    if size > MAX_BYTES or self._left < 0:
                        raise UpstreamFailed(f"its metrics are over {MAX_BYTES} bytes, or all over {MAX_BYTES_OF_ALL}.")
                    chunks.append(chunk)
        except TimeoutError:
            raise UpstreamTimeout(f"{worker.url} did not answer /metrics within {SCRAPE_TIMEOUT:g} s.") from None
        return b"".join(chunks)
