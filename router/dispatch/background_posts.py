"""Small requests to workers whose responses nobody awaits, such as aborts: few at a time on each worker."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

from router.dispatch.client_headers import NO_CLIENT_HEADERS, ClientHeaders
from router.errors import RouterError
from router.observability.tracing.leg_tracer import Headers
from router.workers.worker import Worker

POST_TIMEOUT = 5.0  # seconds for one response
POSTS_AT_ONCE = 8  # to one worker
MAX_WAITING = (
    10_000  # waiting posts to one worker; more are dropped, and the worker notices the closed connection instead
)
MAX_AGE = 30.0  # seconds after which a waiting post is dropped


@dataclass
class _Lane:
    """The posts to one worker: what waits as (time, path, body, headers), and the tasks that send it."""

    waiting: deque[tuple[float, str, bytes, Headers]] = field(default_factory=deque)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class BackgroundPosts:
    """Posts to workers in the background; responses and errors are ignored.

    At most `POSTS_AT_ONCE` go to a worker at the same time: else a client that leaves a batch of a thousand prompts
    would cause a thousand connections.
    """

    def __init__(self) -> None:
        self._lanes: dict[Worker, _Lane] = {}

    @property
    def running(self) -> int:
        """Number of posts being sent."""
        return sum(len(lane.tasks) for lane in self._lanes.values())

    @property
    def waiting(self) -> int:
        """Number of posts that wait."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def post(self, worker: Worker, path: str, raw: bytes, headers: Headers = ()) -> None:
        """Post a body soon."""
        lane = self._lanes.setdefault(worker, _Lane())
        if len(lane.waiting) >= MAX_WAITING:
            return
        lane.waiting.append((time.monotonic(), path, raw, headers))
        if len(lane.tasks) < POSTS_AT_ONCE:
            task = asyncio.create_task(self._send_waiting(worker, lane))
            lane.tasks.add(task)
            task.add_done_callback(lambda done: self._ended(worker, lane, done))

    def abort(
        self, workers: Iterable[Worker], rid: str | list[str], headers: ClientHeaders = NO_CLIENT_HEADERS
    ) -> None:
        """Abort a request on its workers: SGLang notices a closed connection only after seconds.

        Args:
            workers: The workers.
            rid: The request's id, or a list with one for each prompt.
            headers: Headers of the client's request, whose key the workers may want.
        """
        for request_id in rid if isinstance(rid, list) else [rid]:
            for worker in workers:
                self.post(worker, "/abort_request", orjson.dumps({"rid": request_id}), headers.key_for(worker))

    async def close(self) -> None:
        """Wait until all is sent, for at most `POST_TIMEOUT`; then give up what is left."""
        tasks = [task for lane in self._lanes.values() for task in lane.tasks]
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=POST_TIMEOUT)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    def _ended(self, worker: Worker, lane: _Lane, task: asyncio.Task[None]) -> None:
        lane.tasks.discard(task)
        if not lane.tasks and self._lanes.get(worker) is lane:
            del self._lanes[worker]

    async def _send_waiting(self, worker: Worker, lane: _Lane) -> None:
        while lane.waiting:
            queued_at, path, raw, headers = lane.waiting.popleft()
            if time.monotonic() - queued_at < MAX_AGE:
                await _post_and_ignore(worker, path, raw, headers)


async def _post_and_ignore(worker: Worker, path: str, raw: bytes, headers: Headers) -> None:
    try:
        async with (
            asyncio.timeout(POST_TIMEOUT),
            await worker.origin.request("POST", path, raw, headers) as response,
        ):
            await response.read()
    except (RouterError, TimeoutError):
        return  # a worker that is gone has nothing left to abort
