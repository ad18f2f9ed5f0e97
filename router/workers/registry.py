"""All workers of a router, by model and role."""

import asyncio
from collections.abc import Iterable
from typing import get_args

from router.errors import Conflict, NotFound, NoWorker
from router.workers.worker import Pair, Role, Worker


class Registry:
    """All workers, by model and role.

    Attributes:
        workers: All of them, those included that were removed and still have requests.
        proven: Pairs that have generated something since both were found healthy.
    """

    def __init__(self, workers: Iterable[Worker]) -> None:
        self.workers = list(workers)
        self.proven: set[Pair] = set()

    def add(self, worker: Worker) -> None:
        """Take a worker in; raises `Conflict` when its address is there already."""
        other = self.at(worker.url, worker.role)
        if other is not None:
            state = "is being removed; wait until it is gone" if other.draining else f"is here as {other.id}"
            raise Conflict(f"the worker {worker.url} {state}.")
        self.workers.append(worker)

    def at(self, url: str, role: Role) -> Worker | None:
        """The worker of a role at an address, as `Worker.url` has it."""
        return next((worker for worker in self.workers if (worker.url, worker.role) == (url, role)), None)

    def by_id(self, number: str) -> Worker:
        """The worker of an id; raises `NotFound`."""
        for worker in self.workers:
            if worker.id == number:
                return worker
        raise NotFound(f"there is no worker {number!r} here; GET /workers tells all.")

    def drop(self, worker: Worker) -> None:
        """Forget a worker whose requests have ended."""
        self.workers.remove(worker)
        self.proven = {pair for pair in self.proven if worker not in (pair.prefill, pair.decode)}
        worker.origin.close()

    async def probe(self) -> None:
        """Probe all workers at once."""
        await asyncio.gather(*(worker.probe() for worker in self.workers))
        self.proven = {pair for pair in self.proven if pair.prefill.proven and pair.decode.proven}

    def prove(self, pair: Pair) -> None:
        """A pair has generated something."""
        self.proven.add(pair)
        pair.prefill.proven = pair.decode.proven = True

    def pairs(self) -> list[Pair]:
        """Every prefill server with every decode server of its model, where both are healthy and stay."""
        there = [worker for worker in self.workers if worker.healthy and not worker.draining]
        return [
            Pair(prefill, decode)
            for prefill in there
            for decode in there
            if prefill.role == "prefill" and decode.role == "decode" and prefill.model == decode.model
        ]

    def models(self) -> list[str]:
        """Names of the models that have a prefill and a decode server, or a plain one, to send requests to."""
        prefill, decode, plain = (
            {w.model for w in self.workers if w.usable and w.role == role} for role in get_args(Role)
        )
        order = [w.model for w in self.workers if w.model is not None]
        ready = (prefill & decode) | plain
        return [model for model in dict.fromkeys(order) if model in ready]

    def paired(self, model: str) -> bool:
        """Whether a model goes to pairs: always, unless only plain servers have it."""
        return all(worker.role != "plain" for worker in self.workers if worker.model == model)

    def plain(self, model: str) -> list[Worker]:
        """The model's plain servers that may get requests, never empty; raises as `healthy`."""
        return self.healthy(model, "plain")

    def healthy(self, model: str, role: Role) -> list[Worker]:
        """The model's workers of a role that may get requests, never empty.

        Raises:
            NotFound: No worker serves the model.
            NoWorker: The model is known but no worker of that role is healthy.
        """
        found = [worker for worker in self.workers if worker.model == model and worker.role == role and worker.usable]
        if found:
            return found
        if all(worker.model != model for worker in self.workers):
            known = ", ".join(self.models()) or "none is ready"
            raise NotFound(f"the model {model!r} is not served here; served: {known}.")
        raise NoWorker(f"no {role} server of the model {model!r} is healthy; try again later.", retry_after=1.0)

    def default_model(self) -> str | None:
        """The model a request without a model name gets: the only one, else None."""
        models = list(dict.fromkeys(w.model for w in self.workers if w.model is not None))
        return models[0] if len(models) == 1 else None

    def close(self) -> None:
        """Close idle connections."""
        for worker in self.workers:
            worker.origin.close()
