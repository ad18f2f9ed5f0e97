"""The policy `least_load`: the worker that is through with its work first."""

import random
from collections.abc import Sequence
from typing import ClassVar

from router.load_balancing.load_estimates import requests_on
from router.load_balancing.policy import InProcesses, Policy
from router.load_balancing.routing_context import NO_CONTEXT, RoutingContext
from router.load_balancing.settings import PolicySettings
from router.workers.worker import Worker

FULL = 0.999  # share of KV in use that counts as full


class LeastLoad(Policy):
    """Chooses the shortest expected wait: the time for the work on a worker, and a penalty for KV in use.

    The work is the tokens that wait for their prefill, as the server reports them, and `mean_prefill_tokens` for each
    other request; on decode and plain servers also the tokens that clients expect of this router's requests. The
    penalty is `kv_pressure_weight * k / (1 - k)` for a share `k` of KV in use, which grows without bound where requests
    would be retracted. This is smg's rule but for three things: expected tokens count, requests of this router count
    from now and not from the last report (`load_estimates`), and all workers are taken to be equally fast: how much a
    server generates now tells how busy it is, not how fast it is. Ties are drawn.
    """

    uses_server_loads: ClassVar[bool] = True
    in_processes: ClassVar[InProcesses] = "told"

    def __init__(self, settings: PolicySettings | None = None) -> None:
        self._settings = settings or PolicySettings()

    def choose(self, workers: Sequence[Worker], context: RoutingContext = NO_CONTEXT) -> Worker:
        """Choose the worker with the shortest expected wait."""
        if len(workers) == 1:
            return workers[0]
        waits = map(self._wait, workers, requests_on(workers))
        return min(zip(waits, (random.random() for _ in workers), workers, strict=True), key=lambda each: each[:2])[2]

    def _wait(self, worker: Worker, requests: float) -> float:
        """The expected wait in seconds."""
        settings, report = self._settings, worker.server_load
        expected = worker.load.expected_tokens + worker.load.tokens_elsewhere
        tokens, usage = requests * settings.mean_prefill_tokens + expected, 0.0
        if report is not None:
            usage = min(report.token_usage or 0.0, FULL)
            if report.waiting_tokens is not None:
                tokens += report.waiting_tokens - min(report.waiting, requests) * settings.mean_prefill_tokens
        return tokens / settings.throughput + settings.kv_pressure_weight * usage / (1 - usage)
