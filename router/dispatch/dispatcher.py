"""Chooses pairs by the load-balancing policies, sends requests to both servers of a pair, and aborts them."""

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

import orjson

from router.dispatch.breaker_checks import available_workers
from router.dispatch.exchange_scope import ExchangeScope
from router.dispatch.restart_queue import RestartQueue
from router.errors import RouterError
from router.http.body import Body
from router.load_balancing import CacheAwareSettings, Policy, PromptPrefix
from router.observability.tracing.leg_tracer import LegTracer
from router.workers.registry import Registry
from router.workers.worker import PAIR_ROLES, Pair, Worker

ABORT_TIMEOUT = 5.0  # seconds


class Dispatcher:
    """Chooses pairs and sends requests to them.

    Args:
        registry: The workers.
        prefill_policy: Chooses among prefill servers.
        decode_policy: Chooses among decode servers.
        balance: When loads are imbalanced, so that a sticky pair is given up (`can_keep_pair`).
        restarts: Where requests wait for workers that restart.
    """

    def __init__(
        self,
        registry: Registry,
        prefill_policy: Policy,
        decode_policy: Policy,
        balance: CacheAwareSettings | None = None,
        restarts: RestartQueue | None = None,
    ) -> None:
        self.registry = registry
        self.restarts = restarts or RestartQueue(registry)
        self._balance = balance or CacheAwareSettings()
        self._prefill_policy = prefill_policy
        self._decode_policy = decode_policy
        self._background_posts: set[asyncio.Task[None]] = set()

    def choose_pair(self, model: str, prompt: PromptPrefix | None = None, avoid: Collection[Worker] = ()) -> Pair:
        """Choose a usable prefill and decode server of the model by the two policies.

        Workers in `avoid` are chosen only if there is no other. Raises `NotFound` for an unknown model, and `NoWorker`
        if a role has no usable worker or none whose breaker lets a request through.
        """
        prefill, decode = (available_workers(self.registry.usable(model, role)) for role in PAIR_ROLES)
        if avoid:
            prefill, decode = ([w for w in group if w not in avoid] or group for group in (prefill, decode))
        return Pair(self._prefill_policy.choose(prefill, prompt), self._decode_policy.choose(decode, prompt))

    def can_keep_pair(self, pair: Pair) -> bool:
        """Whether a sticky pair should serve the next request too: both workers are usable and not overloaded."""
        for worker in (pair.prefill, pair.decode):
            if not (worker.usable and worker.breaker.allows()):
                return False
            min_load = min(each.load for each in self.registry.usable(str(worker.model), worker.role))
            if self._balance.imbalanced(worker.load, min_load):
                return False
        return True

    def exchange(self, path: str, body: Body, pair: Pair, tracer: LegTracer | None = None) -> ExchangeScope:
        """Send `body` to both servers of a pair: `async with dispatcher.exchange(...) as exchange`.

        Leaving the block ends the request on both servers. Entering it returns once decode's response has started, and
        raises:
            BadRequest: See `router_fields`.
            NoWorker: A breaker of the pair lets no request through; nothing was sent.
            RouterError: A leg failed before decode's response started.
        """
        return ExchangeScope(path, body, pair, self.abort, tracer)

    def abort(self, pair: Pair, rid: Any) -> None:
        """Abort a request on both servers in the background: SGLang notices a closed connection only after seconds."""
        for request_id in rid if isinstance(rid, list) else [rid]:
            self.post_to_both(pair, "/abort_request", {"rid": request_id})

    def post_to_both(self, pair: Pair, path: str, body: dict[str, Any]) -> None:
        """Post to both servers in the background; responses and errors are ignored."""
        raw = orjson.dumps(body)
        for worker in (pair.prefill, pair.decode):
            self._start_task(_post_and_ignore(worker, path, raw))

    def abort_on_worker(self, worker: Worker, rid: str) -> None:
        """Abort a request on one server in the background."""
        self._start_task(_post_and_ignore(worker, "/abort_request", orjson.dumps({"rid": rid})))

    def _start_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._background_posts.add(task)
        task.add_done_callback(self._background_posts.discard)

    async def close(self) -> None:
        """Wait for aborts in the background, for at most `ABORT_TIMEOUT`."""
        if self._background_posts:
            await asyncio.wait(self._background_posts, timeout=ABORT_TIMEOUT)


async def _post_and_ignore(worker: Worker, path: str, raw: bytes) -> None:
    try:
        async with (
            asyncio.timeout(ABORT_TIMEOUT),
            await worker.origin.request("POST", path, raw) as response,
        ):
            await response.read()
    except (RouterError, TimeoutError):
        return  # a worker that is gone has nothing left to abort
