"""One request on a pair: both servers get it at once, decode's answer is the client's.

Prefill waits for decode's handshake before it transfers, so neither leg may wait for the other to be
answered. Whatever ends the exchange early - the client leaves, a leg fails - ends it on both servers.
"""

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

import orjson

from router.dispatch.attempt import available_workers
from router.dispatch.exchanging import ExchangeScope
from router.errors import RouterError
from router.http.body import Body
from router.load_balancing import CacheAwareSettings, Policy, PromptPrefix
from router.observability.tracing.leg_tracer import LegTracer
from router.workers.registry import Registry
from router.workers.worker import PAIR_ROLES, Pair, Worker

ABORT_TIMEOUT = 5.0  # seconds


class Dispatcher:
    """Sends requests to pairs.

    Args:
        registry: The workers.
        prefill_policy: Chooses among prefill servers.
        decode_policy: Chooses among decode servers.
        balance: When a worker has so much more to do than others that what it has cached does not count.
    """

    def __init__(
        self,
        registry: Registry,
        prefill_policy: Policy,
        decode_policy: Policy,
        balance: CacheAwareSettings | None = None,
    ) -> None:
        self.registry = registry
        self._balance = balance or CacheAwareSettings()
        self._prefill_policy = prefill_policy
        self._decode_policy = decode_policy
        self._aborts: set[asyncio.Task[None]] = set()

    def choose_pair(self, model: str, prompt: PromptPrefix | None = None, avoid: Collection[Worker] = ()) -> Pair:
        """A pair of healthy workers of the model, by the prompt if it is known.

        Workers in `avoid` are chosen only where there is no other. Raises `NotFound`, or `NoWorker` when
        a role has no healthy worker, or none whose breaker lets a request through.
        """
        prefill, decode = (available_workers(self.registry.usable(model, role)) for role in PAIR_ROLES)
        if avoid:
            prefill, decode = ([w for w in group if w not in avoid] or group for group in (prefill, decode))
        return Pair(self._prefill_policy.choose(prefill, prompt), self._decode_policy.choose(decode, prompt))

    def can_stay(self, pair: Pair) -> bool:
        """Whether what was begun on a pair should go on there: both workers take requests and are not overloaded."""
        for worker in (pair.prefill, pair.decode):
            if not (worker.usable and worker.breaker.allows()):
                return False
            least = min(each.load for each in self.registry.usable(str(worker.model), worker.role))
            if self._balance.imbalanced(worker.load, least):
                return False
        return True

    def exchange(self, path: str, body: Body, pair: Pair, tracer: LegTracer | None = None) -> ExchangeScope:
        """Send `body` to both servers of a pair, in the name of a span, for as long as an `async with` block lasts.

        The block's end ends the exchange on both. Its beginning raises `BadRequest` as `own_fields`; `RouterError`
        when a leg fails before decode's answer begins; `NoWorker` when a breaker of the pair is open, and then
        nothing was sent.
        """
        return ExchangeScope(path, body, pair, self.abort, tracer)

    def abort(self, pair: Pair, rid: Any) -> None:
        """Tell both servers, without waiting: SGLang notices a closed connection only after seconds."""
        for each in rid if isinstance(rid, list) else [rid]:
            self.post_to_both(pair, "/abort_request", {"rid": each})

    def post_to_both(self, pair: Pair, path: str, body: dict[str, Any]) -> None:
        """Post to both servers without waiting for what they say, or whether they are there."""
        raw = orjson.dumps(body)
        for worker in (pair.prefill, pair.decode):
            self._spawn(_tell(worker, path, raw))

    def abort_on_worker(self, worker: Worker, rid: str) -> None:
        """Tell one server to end a request, without waiting for what it says."""
        self._spawn(_tell(worker, "/abort_request", orjson.dumps({"rid": rid})))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    async def close(self) -> None:
        """Let aborts that are under way finish."""
        if self._aborts:
            await asyncio.wait(self._aborts, timeout=ABORT_TIMEOUT)


async def _tell(worker: Worker, path: str, raw: bytes) -> None:
    try:
        async with (
            asyncio.timeout(ABORT_TIMEOUT),
            await worker.origin.request("POST", path, raw) as response,
        ):
            await response.read()
    except (RouterError, TimeoutError):
        return  # a worker that is gone has nothing left to end
