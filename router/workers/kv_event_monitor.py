"""Follows the KV events of all servers that publish them, so that policies know what is cached where."""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import msgspec

from router.config.flags import flag
from router.errors import RouterError
from router.workers.kv_blocks import KvBlocks
from router.workers.kv_event_messages import EventSource
from router.workers.kv_event_stream import KvEventStream
from router.workers.registry import Registry
from router.workers.worker import Role, Worker

if TYPE_CHECKING:
    import zmq.asyncio

logger = logging.getLogger(__name__)

CHECK_SECS = 1.0  # between looks at which servers there are
RETRY_SECS = 30.0  # after events that could not be read


@dataclass(frozen=True)
class KvEventSettings:
    """Whether servers' KV events are followed."""

    enabled: bool = flag(
        "--kv-events",
        default=False,
        help_text="follow the KV events of SGLang servers that publish them (their --kv-events-config), so that "
        "cache_aware and predicted_latency know which token ids are cached; needs pyzmq",
    )


@dataclass(eq=False)
class _Followed:
    """One process of a server that is followed."""

    restarts: int
    source: EventSource
    stream: KvEventStream
    task: "asyncio.Task[None]"


class KvEventMonitor:
    """Sets `Worker.kv_blocks` of servers that publish their events, and takes it away when they cannot be read.

    Args:
        registry: The workers.
        settings: Whether events are followed at all.
        roles: The roles whose policies use them.

    Raises:
        RouterError: They are to be followed, and pyzmq is missing.
    """

    def __init__(self, registry: Registry, settings: KvEventSettings, roles: Collection[Role]) -> None:
        self._registry = registry
        self._roles = roles if settings.enabled else ()
        self._followed: WeakKeyDictionary[Worker, _Followed] = WeakKeyDictionary()
        self._told: WeakKeyDictionary[Worker, str] = WeakKeyDictionary()
        if settings.enabled:
            try:
                import zmq.asyncio  # noqa: F401 - whether it is there
            except ImportError:
                raise RouterError("--kv-events needs pyzmq; install it beside the router.") from None

    def streams(self) -> list[tuple[Worker, KvEventStream]]:
        """The workers that are followed."""
        return [(worker, followed.stream) for worker, followed in self._followed.items()]

    async def run(self) -> None:
        """Follow whoever publishes events, until cancelled."""
        if not self._roles:
            return
        import zmq.asyncio

        with zmq.asyncio.Context() as context:
            try:
                while True:
                    self._look(context)
                    await asyncio.sleep(CHECK_SECS)
            finally:
                for followed in list(self._followed.values()):
                    followed.task.cancel()
                await asyncio.gather(*(each.task for each in self._followed.values()), return_exceptions=True)

    def _look(self, context: "zmq.asyncio.Context") -> None:
        """Begin to follow those that are new or restarted, and end it for those that are gone."""
        present = [worker for worker in self._registry.workers if worker.role in self._roles]
        for worker in [each for each in self._followed if each not in present]:
            self._end(worker)
        for worker in present:
            source = worker.report.kv_event_source
            if isinstance(source, str) and self._told.get(worker) != source:
                self._told[worker] = source
                logger.warning("the KV events of %s are not used: %s", worker.url, source)
            followed = self._followed.get(worker)
            if followed is not None and (followed.restarts, followed.source) != (worker.health.restarts, source):
                self._end(worker)
                followed = None
            if followed is None and isinstance(source, EventSource):
                self._begin(worker, source, context)

    def _begin(self, worker: Worker, source: EventSource, context: "zmq.asyncio.Context") -> None:
        blocks = KvBlocks(source.block_size)
        stream = KvEventStream(context, source, blocks)
        task = asyncio.get_running_loop().create_task(self._follow(worker, stream, blocks))
        self._followed[worker] = _Followed(worker.health.restarts, source, stream, task)

    def _end(self, worker: Worker) -> None:
        self._followed.pop(worker).task.cancel()
        worker.kv_blocks = None

    async def _follow(self, worker: Worker, stream: KvEventStream, blocks: KvBlocks) -> None:
        while True:
            worker.kv_blocks = blocks
            try:
                await stream.follow()
            except (msgspec.MsgspecError, OSError) as error:
                worker.kv_blocks = None
                blocks.lose()
                logger.warning("the KV events of %s cannot be read: %s", worker.url, error)
            except Exception:
                worker.kv_blocks = None
                blocks.lose()
                logger.exception("unexpected error while following the KV events of %s", worker.url)
            await asyncio.sleep(RETRY_SECS)
