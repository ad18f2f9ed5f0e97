"""The registry of all workers of a router, searched by model, role, address or id."""

import asyncio
import logging
from collections.abc import Iterable
from typing import get_args

from router.errors import Conflict, NotFound, NoWorker, RouterError
from router.workers.worker import PAIR_ROLES, Pair, Role, Worker

logger = logging.getLogger(__name__)


class Registry:
    """All workers of a router.

    Args:
        workers: Those that are there from the start.
        exact_models: Whether a model must be named as its servers name it, also where there is one model alone.

    Attributes:
        workers: Every worker, also those being removed that still have requests in flight.
        warmed_up_pairs: Pairs that have generated something since both workers became healthy.
    """

    def __init__(self, workers: Iterable[Worker], *, exact_models: bool = True) -> None:
        self.workers = list(workers)
        self._exact_models = exact_models
        self.warmed_up_pairs: set[Pair] = set()
        self._probing: set[Worker] = set()
        self._resends_to_dropped = 0

    def add(self, worker: Worker) -> None:
        """Add a worker; raises `Conflict` if there is one of the same role at its address."""
        existing = self.find(worker.url, worker.role)
        if existing is not None:
            raise _already_there(existing)
        self.workers.append(worker)

    def refuse_address(self, url: str) -> None:
        """Raise `Conflict` if there is a worker of any role at a normalised address."""
        for worker in self.workers:
            if worker.url == url:
                raise _already_there(worker)

    def expect(self) -> None:
        """Take workers as warmed up, since other processes use them already; requests wait for those that are away."""
        for worker in self.workers:
            worker.health.expect()

    def find(self, url: str, role: Role) -> Worker | None:
        """The worker with this role and normalised address (`Worker.url`), or None."""
        return next((worker for worker in self.workers if (worker.url, worker.role) == (url, role)), None)

    def by_id(self, worker_id: str) -> Worker:
        """The worker with this id; raises `NotFound`."""
        for worker in self.workers:
            if worker.id == worker_id:
                return worker
        raise NotFound(f"there is no worker {worker_id!r} here; GET /workers tells all.", code="WORKER_NOT_FOUND")

    def drop(self, worker: Worker) -> None:
        """Remove a worker that has no requests in flight, and close its connections."""
        self.workers.remove(worker)
        self.warmed_up_pairs = {pair for pair in self.warmed_up_pairs if worker not in (pair.prefill, pair.decode)}
        self._resends_to_dropped += worker.origin.resends
        worker.origin.close()

    @property
    def resends(self) -> int:
        """Requests that were sent to a worker again, also to those that were removed (`Origin.resends`)."""
        return self._resends_to_dropped + sum(worker.origin.resends for worker in self.workers)

    async def probe(self, *workers: Worker) -> None:
        """Probe workers concurrently, all if none is named, but not one that is being probed already."""
        await asyncio.gather(*(self._probe(each) for each in workers or self.workers if each not in self._probing))

    async def _probe(self, worker: Worker) -> None:
        self._probing.add(worker)
        known = worker.health.problem
        try:
            await worker.probe()
            if worker.health.problem not in (None, known):
                logger.warning("%s", worker.health.problem)
        finally:
            self._probing.discard(worker)

    def cold_pairs(self) -> list[Pair]:
        """The pairs that have not generated anything since both workers became healthy."""
        self.warmed_up_pairs = {
            pair for pair in self.warmed_up_pairs if pair.prefill.health.warmed_up and pair.decode.health.warmed_up
        }
        return [
            pair
            for pair in self.pairs()
            if pair not in self.warmed_up_pairs and not (pair.prefill.health.wants_key or pair.decode.health.wants_key)
        ]

    def _of_model(self, model: str) -> list[Worker]:
        """The workers that are known to serve a model; where there are none, those that are asked for any."""
        known = [worker for worker in self.workers if model in worker.models]
        return known or [worker for worker in self.workers if worker.serves_any]

    def serving(self, model: str, role: Role) -> list[Worker]:
        """The model's workers of a role, also those that cannot take requests now."""
        return [worker for worker in self._of_model(model) if worker.role == role]

    def recovering(self, model: str) -> bool:
        """Whether nothing can serve the model now, and a worker that it lacks may soon be usable again."""
        workers = {role: self.serving(model, role) for role in get_args(Role)}
        usable = {role for role, group in workers.items() if any(worker.health.usable for worker in group)}
        if "plain" in usable or usable.issuperset(PAIR_ROLES):
            return False
        return any(worker.health.recovering for role in workers.keys() - usable for worker in workers[role])

    def untried(self, model: str) -> bool:
        """Whether the model's pairs lack nothing but a first generation of servers that are back."""
        groups = [[worker.health for worker in self.serving(model, role)] for role in PAIR_ROLES]
        return all(any(health.usable or health.untried for health in group) for group in groups)

    def mark_warmed_up(self, pair: Pair, restarts: tuple[int, int]) -> None:
        """Record that a pair has generated something, unless a server is gone or was restarted meanwhile.

        Args:
            pair: The pair.
            restarts: Its `restarts` when the request began.
        """
        servers = Pair(pair.prefill.server, pair.decode.server)
        if pair.restarts == restarts and servers in self.pairs():
            self.warmed_up_pairs.add(servers)
            pair.prefill.health.generated()
            pair.decode.health.generated()

    def pairs(self) -> list[Pair]:
        """Every healthy prefill server with every healthy decode server of its model; none that is being removed."""
        healthy = [w for w in self.workers if w.health.present and not w.health.wedged]
        return [
            Pair(prefill, decode)
            for prefill in healthy
            for decode in healthy
            if prefill.role == "prefill" and decode.role == "decode" and prefill.model == decode.model
        ]

    def decoding_beside(self, worker: Worker) -> int:
        """Requests in flight on servers that decode on one of a worker's GPUs; 0 where the servers tell none."""
        gpus = worker.report.gpus
        if not gpus:
            return 0
        return sum(
            each.load.in_flight
            for each in self.workers
            if each.role != "prefill" and not gpus.isdisjoint(each.report.gpus)
        )

    def models(self) -> list[str]:
        """Models that can serve requests now: with a usable prefill and decode server, or a usable plain server."""
        prefill, decode, plain = (
            {model for w in self.workers if w.health.usable and w.role == role for model in w.models}
            for role in get_args(Role)
        )
        ready = (prefill & decode) | plain
        return [model for model in self.known_models() if model in ready]

    def serves_any(self) -> bool:
        """Whether requests for any model can be served now, by workers that only clients' keys open."""
        roles = {worker.role for worker in self.workers if worker.serves_any and worker.health.usable}
        return "plain" in roles or roles.issuperset(PAIR_ROLES)

    def known_models(self) -> list[str]:
        """Models of all workers, in their order, also those that cannot serve requests now."""
        return list(dict.fromkeys(model for worker in self.workers for model in worker.models))

    def served_by_pairs(self, model: str) -> bool:
        """Whether a model's requests go to pairs: unless a plain server has it, and is usable or there are no pairs."""
        has_plain = has_pairs = False
        for worker in self._of_model(model):
            if worker.role != "plain":
                has_pairs = True
            elif worker.health.usable:
                return False
            else:
                has_plain = True
        return has_pairs or not has_plain

    def usable(self, model: str, role: Role, *, untried: bool = False) -> list[Worker]:
        """The model's workers of a role that may get requests, never empty; with `untried`, also such as are back.

        Raises:
            NotFound: No worker serves the model, and all have said what they serve.
            NoWorker: The model has no usable worker of that role, or a worker may serve it that has said nothing yet.
        """
        usable = [w for w in self.workers if model in w.models and w.role == role and w.health.usable]
        if usable:
            return usable
        if untried and (back := [worker for worker in self.serving(model, role) if worker.health.untried]):
            return back
        workers = self._of_model(model)
        usable = [worker for worker in workers if worker.role == role and worker.health.usable]
        if usable:
            return usable
        if not workers:
            raise self._unknown(model)
        raise NoWorker(f"no {role} server of the model {model!r} is healthy; try again later.", retry_after=1.0)

    def _unknown(self, model: str) -> RouterError:
        """The error of a model that no worker is known to serve."""
        served = ", ".join(self.models()) or "none is ready"
        silent = [worker.url for worker in self.workers if worker.model is None and not worker.health.draining]
        if silent or not self.workers:
            why = f"{silent[0]} has not said yet what it serves" if silent else "there are no workers yet"
            return NoWorker(f"the model {model!r} is not known here: {why}; served: {served}.", retry_after=1.0)
        return NotFound(f"the model {model!r} is not served here; served: {served}.")

    def default_model(self) -> str | None:
        """The model for requests that name none: the only known one, else None."""
        first: str | None = None
        for worker in self.workers:
            for model in worker.models:
                if first is None:
                    first = model
                elif model != first:
                    return None
        return first

    def meant_by(self, name: str) -> str:
        """The model that a request means by a name: without `exact_models` the only one that all workers serve."""
        if self._exact_models or any(name in worker.models for worker in self.workers):
            return name
        if any(worker.model is None for worker in self.workers):
            return name  # one may yet turn out to have it
        return self.default_model() or name

    def close(self) -> None:
        """Close the idle connections of all workers."""
        for worker in self.workers:
            worker.origin.close()


def _already_there(worker: Worker) -> Conflict:
    state = "is being removed; wait until it is gone" if worker.health.draining else f"is here as {worker.id}"
    return Conflict(f"the worker {worker.url} {state}.", code="WORKER_ALREADY_EXISTS")
