"""Health: `/health`, `/health_generate`, `/liveness` and `/readiness`."""

from collections.abc import Callable

from router.dispatch.dispatcher import Dispatcher
from router.endpoints.drain import DrainEndpoints
from router.errors import NoWorker
from router.http.client_request import ClientRequest
from router.http.disconnect import while_connected
from router.worker_supervision.supervisor import WorkerSupervisor
from router.workers.worker import PAIR_ROLES, Pair

TEXT_HEADERS = [(b"content-type", b"text/plain; charset=utf-8")]


class HealthEndpoints:
    """Whether the router runs, and whether requests can be served.

    `/health` and `/liveness` tell the first, as those of sglang-router and smg do: what waits for `/health` before it
    adds workers must get 200 without any.

    Args:
        dispatcher: Its registry knows the models.
        supervisor: Knows whether all pairs are warm.
        judge_state: Tells the state of early exit's judge.
        drain: Knows whether the router is being drained.
        names_models: Whether everybody may know the models; else only clients that may use them.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        supervisor: WorkerSupervisor,
        judge_state: Callable[[], str],
        drain: DrainEndpoints,
        *,
        names_models: bool = True,
    ) -> None:
        self._dispatcher = dispatcher
        self._registry = dispatcher.registry
        self._supervisor = supervisor
        self._judge_state = judge_state
        self._drain = drain
        self._names_models = names_models

    async def health(self, request: ClientRequest) -> None:
        """200 as long as the router runs, with the models that can be served now."""
        models = self._registry.models()
        told = self._names_models or "data" in request.rights
        await request.send_json({"status": "ok", "models": models} if told else {"status": "ok"})

    async def liveness(self, request: ClientRequest) -> None:
        """200 as long as the router runs."""
        await request.send_response(200, b"OK", TEXT_HEADERS)

    async def readiness(self, request: ClientRequest) -> None:
        """200 once every known pair has generated something; raises `NoWorker` before."""
        if self._drain.active:
            raise self._drain.refusal()
        reason = self._supervisor.unready_reason()
        if reason is not None:
            raise NoWorker(reason, retry_after=1.0)
        workers = self._registry.workers
        usable = sum(worker.health.usable for worker in workers)
        await request.send_json(
            {
                "status": "ready",
                "healthy_workers": usable,
                "total_workers": len(workers),
                "judge": self._judge_state(),
            }
        )

    async def health_generate(self, request: ClientRequest) -> None:
        """200 when a pair or plain server of each model has generated something now; raises `RouterError`."""
        models = self._healthy_models()

        async def generate() -> None:
            for model in models:
                # Not by policy: a probe has no prompt whose cache counts, and leaves no trace in what policies learn.
                if self._registry.served_by_pairs(model):
                    prefill, decode = (self._dispatcher.selector.choose_idlest(model, role) for role in PAIR_ROLES)
                    await self._supervisor.generate(Pair(prefill, decode))
                else:
                    await self._supervisor.generate_on_plain(self._dispatcher.selector.choose_idlest(model, "plain"))

        await request.body()
        await while_connected(request, generate())
        await request.send_json({"status": "ok", "models": models})

    def _healthy_models(self) -> list[str]:
        models = self._registry.models()
        if not models:
            raise NoWorker(
                "no model has a healthy plain server, or both a healthy prefill and a healthy decode server, yet.",
                retry_after=1.0,
            )
        return models
