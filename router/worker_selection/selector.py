"""Selects workers for a request: those that may get one, and among them by the load-balancing policies."""

import random
from collections.abc import Collection, Iterable, Mapping

from router.load_balancing import NO_CONTEXT, CacheAwareSettings, Policy, PowerOfTwo, RequestWatch, RoutingContext
from router.worker_selection.breaker_checks import available_workers
from router.worker_selection.overload import OverloadGuard
from router.worker_selection.pair_places import PairPlaces
from router.worker_selection.restart_queue import RestartQueue
from router.worker_selection.target_worker import target_worker
from router.workers.registry import Registry
from router.workers.worker import Pair, Role, Worker


class WorkerSelector:
    """Selects pairs, plain servers, and single servers of a pair.

    Args:
        registry: The workers.
        policies: The policy of each role; that of plain servers is power of two choices by default.
        balance: When loads are so imbalanced that a request leaves the pair of the last one (`can_keep_pair`).
        places: Where requests wait for places on pairs; None without such limits.
        restarts: Where requests wait for workers that restart.
        overload: Leaves overloaded servers out; None where none is.
    """

    def __init__(
        self,
        registry: Registry,
        policies: Mapping[Role, Policy],
        *,
        balance: CacheAwareSettings | None = None,
        places: PairPlaces | None = None,
        restarts: RestartQueue | None = None,
        overload: OverloadGuard | None = None,
    ) -> None:
        self.registry = registry
        self.places = places or PairPlaces(registry)
        self.restarts = restarts or RestartQueue(registry)
        self._policies: dict[Role, Policy] = {"plain": PowerOfTwo(), **policies}
        self._balance = balance or CacheAwareSettings()
        self._overload = overload

    def choose_pair(
        self, model: str, context: RoutingContext = NO_CONTEXT, avoid: Collection[Worker] = (), places: int = 1
    ) -> Pair:
        """Choose a usable prefill and decode server of the model, each by its policy.

        Workers in `avoid`, and those without as many free `places`, are chosen only if there is no other.

        Raises:
            NotFound: The model is unknown.
            NoWorker: A role has no usable worker, or none whose circuit breaker lets a request through.
            BadRequest, NoWorker: As of `target_worker`.
        """
        prefill = self._candidates(model, "prefill", context, avoid, places)
        decode = self._candidates(model, "decode", context, avoid, places)
        policies = self._policies
        return Pair(policies["prefill"].choose(prefill, context), policies["decode"].choose(decode, context))

    def choose_plain(
        self,
        model: str,
        context: RoutingContext = NO_CONTEXT,
        avoid: Collection[Worker] = (),
        *,
        takes_rank: bool = True,
    ) -> Worker:
        """Choose a usable plain server of the model by its policy, or one of its ranks if the request can have one.

        `avoid` and errors are as of `choose_pair`.
        """
        candidates = self._candidates(model, "plain", context, avoid)
        if not takes_rank:
            candidates = list(dict.fromkeys(worker.server for worker in candidates))
        return self._policies["plain"].choose(candidates, context)

    def choose_idlest(self, model: str, role: Role, avoid: Collection[Worker] = ()) -> Worker:
        """Choose the server of the role with the fewest requests, for what needs no cached prompt.

        `avoid` and errors as of `choose_pair`.
        """
        workers = available_workers(self.registry.usable(model, role))
        return min(_without(workers, avoid), key=lambda worker: (worker.load.in_flight, random.random()))

    def watch_plain(self, worker: Worker, *, streams: bool) -> RequestWatch:
        """Report to the policy that a request is sent to the plain server it chose; see `Policy.sent`."""
        return self._policies["plain"].sent(worker, streams=streams)

    def watch_pair(self, pair: Pair, *, streams: bool) -> tuple[RequestWatch, RequestWatch]:
        """As `watch_plain`, for the two servers of a pair. The end of prefill counts as its first token."""
        prefill, decode = self._policies["prefill"], self._policies["decode"]
        return prefill.sent(pair.prefill, streams=True), decode.sent(pair.decode, streams=streams)

    def can_keep_pair(self, pair: Pair) -> bool:
        """Whether the next request may go to the same pair: both workers are usable and not overloaded."""
        for worker in (pair.prefill, pair.decode):
            if not (worker.health.usable and worker.breaker.allows()):
                return False
            usable = _destinations(self.registry.usable(str(worker.model), worker.role))
            min_load = min(each.load.in_flight for each in usable)
            if self._balance.imbalanced(worker.load.in_flight, min_load):
                return False
        return True

    def _candidates(
        self, model: str, role: Role, context: RoutingContext, avoid: Collection[Worker], places: int = 1
    ) -> list[Worker]:
        """The workers among which the role's policy chooses, at least one."""
        available = available_workers(self.registry.usable(model, role, untried=context.tries))
        if context.target_worker is not None and self._policies[role].obeys_target:
            target = target_worker(self.registry.serving(model, role), available, context.target_worker)
            return list(target.destinations)
        workers = _destinations(available if self._overload is None else self._overload.spare(available, model))
        if self.places.enabled and role != "plain":
            # A place comes first: prefill must not begin for an answer that has none.
            with_place = [worker for worker in _destinations(available) if self.places.has_place(worker, places)]
            workers = [worker for worker in workers if worker in with_place] or with_place or workers
        return _without(workers, avoid)


def _destinations(workers: Iterable[Worker]) -> list[Worker]:
    return [each for worker in workers for each in worker.destinations]


def _without(workers: list[Worker], avoid: Collection[Worker]) -> list[Worker]:
    """The workers that are on none of the servers to avoid; all of them if there is no other."""
    if not avoid:
        return workers
    avoided = {worker.server for worker in avoid}
    return [worker for worker in workers if worker.server not in avoided] or workers
