"""Chooses pairs by the load-balancing policies, sends requests to both servers of a pair, and aborts them."""

import random
from collections.abc import Callable, Collection
from typing import Any

import orjson

from router.dispatch.background_posts import BackgroundPosts
from router.dispatch.breaker_checks import available_workers
from router.dispatch.client_headers import NO_CLIENT_HEADERS, ClientHeaders
from router.dispatch.exchange_scope import ExchangeScope
from router.dispatch.overload import OverloadGuard
from router.dispatch.pair_places import PairPlaces
from router.dispatch.pair_times import PairTimes
from router.dispatch.restart_queue import RestartQueue
from router.dispatch.target_worker import target_worker
from router.http.body import Body
from router.load_balancing import (
    NO_CONTEXT,
    CacheAwareSettings,
    Policy,
    PowerOfTwo,
    RequestWatch,
    RoutingContext,
)
from router.observability.tracing.leg_tracer import LegTracer
from router.workers.registry import Registry
from router.workers.worker import Pair, Role, Worker


class Dispatcher:
    """Chooses pairs and sends requests to them.

    Args:
        registry: The workers.
        prefill_policy: Chooses among prefill servers.
        decode_policy: Chooses among decode servers.
        balance: When loads are imbalanced, so that a sticky pair is given up (`can_keep_pair`).
        restarts: Where requests wait for workers that restart.
        plain_policy: Chooses among plain servers; None for power of two choices.
        times: Counts how long exchanges take; None for one that nobody reads.
        places: Where requests wait for places on pairs; None without such limits.
        overload: Leaves overloaded servers out; None where none is.

    Attributes:
        background: Posts whose responses nobody awaits.
        times: How long exchanges take.
    """

    def __init__(
        self,
        registry: Registry,
        prefill_policy: Policy,
        decode_policy: Policy,
        balance: CacheAwareSettings | None = None,
        restarts: RestartQueue | None = None,
        plain_policy: Policy | None = None,
        times: PairTimes | None = None,
        places: PairPlaces | None = None,
        overload: OverloadGuard | None = None,
    ) -> None:
        self.registry = registry
        self.places = places or PairPlaces(registry)
        self._overload = overload
        self.restarts = restarts or RestartQueue(registry)
        self._balance = balance or CacheAwareSettings()
        self._prefill_policy = prefill_policy
        self._decode_policy = decode_policy
        self._plain_policy = plain_policy or PowerOfTwo()
        self.background = BackgroundPosts()
        self.times = times or PairTimes()

    def choose_pair(
        self, model: str, context: RoutingContext = NO_CONTEXT, avoid: Collection[Worker] = (), places: int = 1
    ) -> Pair:
        """Choose a usable prefill and decode server of the model by the two policies.

        Workers in `avoid`, and those that have not as many `places` free, are chosen only if there is no other. Raises
        `NotFound` for an unknown model, `NoWorker` if a role has no usable worker or none whose breaker lets a request
        through, and as `target_worker` does.
        """
        prefill = self._candidates(self._prefill_policy, model, "prefill", context, avoid, places)
        decode = self._candidates(self._decode_policy, model, "decode", context, avoid, places)
        return Pair(self._prefill_policy.choose(prefill, context), self._decode_policy.choose(decode, context))

    def choose_plain(self, model: str, context: RoutingContext = NO_CONTEXT, avoid: Collection[Worker] = ()) -> Worker:
        """Choose a usable plain server of the model by its policy; `avoid` and errors as of `choose_pair`."""
        workers = self._candidates(self._plain_policy, model, "plain", context, avoid)
        return self._plain_policy.choose(workers, context)

    def watch_plain(self, worker: Worker, *, streams: bool) -> RequestWatch:
        """Tell the policy of a request that is sent to the plain server it just chose, as of `Policy.sent`."""
        return self._plain_policy.sent(worker, streams=streams)

    def watch_pair(self, pair: Pair, *, streams: bool) -> tuple[RequestWatch, RequestWatch]:
        """`watch_plain` for the two servers of a pair; of prefill's the end counts as first token."""
        return self._prefill_policy.sent(pair.prefill, streams=True), self._decode_policy.sent(
            pair.decode, streams=streams
        )

    def _candidates(
        self,
        policy: Policy,
        model: str,
        role: Role,
        context: RoutingContext,
        avoid: Collection[Worker],
        places: int = 1,
    ) -> list[Worker]:
        """The workers among which a policy chooses, never empty: the one that the client wants, or all usable."""
        workers = available_workers(self.registry.usable(model, role, untried=context.tries))
        if context.target_worker is not None and policy.obeys_target:
            return [target_worker(self.registry.serving(model, role), workers, context.target_worker)]
        spared = workers if self._overload is None else self._overload.spare(workers, model)
        if self.places.enabled and role != "plain":
            # A place comes first: prefill must not begin for an answer that has none.
            with_place = [worker for worker in workers if self.places.has_place(worker, places)]
            workers = [worker for worker in spared if worker in with_place] or with_place or spared
        else:
            workers = spared
        return [worker for worker in workers if worker not in avoid] or workers

    def choose_idlest(self, model: str, role: Role, avoid: Collection[Worker] = ()) -> Worker:
        """A usable server of the model and role with the fewest requests, for what needs no prompt's cache.

        `avoid` and errors as of `choose_pair`.
        """
        workers = available_workers(self.registry.usable(model, role))
        return min(
            [w for w in workers if w not in avoid] or workers,
            key=lambda worker: (worker.load.requests, random.random()),
        )

    def can_keep_pair(self, pair: Pair) -> bool:
        """Whether a sticky pair should serve the next request too: both workers are usable and not overloaded."""
        for worker in (pair.prefill, pair.decode):
            if not (worker.health.usable and worker.breaker.allows()):
                return False
            min_load = min(each.load.requests for each in self.registry.usable(str(worker.model), worker.role))
            if self._balance.imbalanced(worker.load.requests, min_load):
                return False
        return True

    def exchange(
        self,
        path: str,
        body: Body,
        pair: Pair,
        tracer: LegTracer | None = None,
        seconds: float | None = None,
        headers: ClientHeaders = NO_CLIENT_HEADERS,
        *,
        first: ExchangeScope | None = None,
        on_prefilled: Callable[[], None] | None = None,
        timed: bool = True,
    ) -> ExchangeScope:
        """Send `body` to both servers of a pair: `async with dispatcher.exchange(...) as exchange`.

        `first` and `on_prefilled` are for samples, as of `ExchangeScope`. `timed` is False for a server's first
        generation, which may compile kernels and says nothing of others.

        Leaving the block ends the request on both servers. Entering it returns once decode's response has started, and
        raises:
            BadRequest: See `router_fields`.
            NoWorker: A breaker of the pair lets no request through; nothing was sent.
            RouterError: A leg failed before decode's response started.
            TimeoutError: Decode's response did not start within `seconds`, if given.
        """
        times = self.times if timed else None
        return ExchangeScope(path, body, pair, self.abort, tracer, seconds, headers, first, on_prefilled, times)

    def abort(self, pair: Pair, rid: Any, headers: ClientHeaders = NO_CLIENT_HEADERS) -> None:
        """Abort a request on both servers in the background: SGLang notices a closed connection only after seconds.

        Args:
            pair: The two servers.
            rid: The request's id, or a list of them.
            headers: Headers of the client's request, whose key the servers may want.
        """
        for request_id in rid if isinstance(rid, list) else [rid]:
            for worker in (pair.prefill, pair.decode):
                self.abort_on_worker(worker, request_id, headers)

    def post_to_both(self, pair: Pair, path: str, body: dict[str, Any]) -> None:
        """Post to both servers in the background; responses and errors are ignored."""
        raw = orjson.dumps(body)
        for worker in (pair.prefill, pair.decode):
            self.background.post(worker, path, raw)

    def abort_on_worker(self, worker: Worker, rid: str, headers: ClientHeaders = NO_CLIENT_HEADERS) -> None:
        """Abort a request on one server in the background; `headers` as of `abort`."""
        self.background.post(worker, "/abort_request", orjson.dumps({"rid": rid}), headers.key_for(worker))

    async def close(self) -> None:
        """Wait for aborts in the background, for a few seconds at most."""
        await self.background.close()
