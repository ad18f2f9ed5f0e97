"""Prometheus metrics of the workers: health, load, circuit breakers, pinned KV.

A metric has the name that sglang-router or smg gives it where it means the same.
"""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.workers.circuit_breaker import BREAKER_STATES
from router.workers.registry import Registry
from router.workers.worker import Role

ROLE_LABELS: dict[Role, str] = {"prefill": "prefill", "decode": "decode", "plain": "regular"}  # `worker_type`


def register_worker_metrics(registry: CollectorRegistry, workers: Registry) -> None:
    """Register the metrics of these workers with Prometheus."""
    registry.register(WorkerGauges(workers))
    registry.register(OpenPromptGauges(workers))


class WorkerGauges(Collector):
    """Health, load, breaker and probe metrics of each worker."""

    def __init__(self, workers: Registry) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        """Metric families, computed from the workers' current state."""

        def gauge(name: str, documentation: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(name, documentation, labels=("worker",))

        health = gauge("smg_worker_health", "1 when it may get requests")
        active = gauge("smg_worker_requests_active", "Requests in flight")
        wedged = gauge("moa_worker_wedged", "1 while it takes requests and does not work")
        state = gauge(
            "smg_worker_cb_state", "Circuit breaker: " + ", ".join(f"{i} {s}" for i, s in enumerate(BREAKER_STATES))
        )
        failures = gauge("smg_worker_cb_consecutive_failures", "Failures in a row")
        successes = gauge("smg_worker_cb_consecutive_successes", "Successes in a row while half-open")
        outcomes = CounterMetricFamily("smg_worker_cb_outcomes", "Attempts by outcome", labels=("worker", "outcome"))
        transitions = CounterMetricFamily(
            "smg_worker_cb_transitions", "Changes of the breaker", labels=("worker", "from", "to")
        )
        readmissions = CounterMetricFamily(
            "smg_worker_cb_health_readmissions", "Breakers closed since the server was restarted", labels=("worker",)
        )
        sent = CounterMetricFamily("smg_worker_requests", "Requests sent", labels=("worker", "model"))
        sizes: Counter[tuple[str, str, str]] = Counter()
        probe_outcomes: Counter[tuple[str, str]] = Counter()
        for worker in self._workers.workers:
            url = (worker.url,)
            health.add_metric(url, worker.health.usable)
            active.add_metric(url, worker.load.requests)
            wedged.add_metric(url, worker.health.wedged is not None)
            state.add_metric(url, BREAKER_STATES.index(worker.breaker.state))
            failures.add_metric(url, worker.breaker.consecutive_failures)
            successes.add_metric(url, worker.breaker.consecutive_successes)
            for outcome in ("success", "failure"):
                outcomes.add_metric((worker.url, outcome), worker.breaker.outcomes[outcome])
                probe_outcomes[ROLE_LABELS[worker.role], outcome] += worker.health.tracker.outcomes[outcome]
            for (old, new), count in worker.breaker.transitions.items():
                transitions.add_metric((worker.url, old, new), count)
            readmissions.add_metric(url, worker.breaker.readmissions)
            for model, count in worker.load.sent.items():
                sent.add_metric((worker.url, model), count)
            for model in worker.models or ("unknown",):
                sizes[ROLE_LABELS[worker.role], "http", model] += 1
        yield from (health, active, wedged, state, failures, successes, outcomes, transitions, readmissions, sent)
        pool = GaugeMetricFamily(
            "smg_worker_pool_size", "Workers that serve a model", labels=("worker_type", "connection_mode", "model")
        )
        for labels, size in sizes.items():
            pool.add_metric(labels, size)
        yield pool
        probes = CounterMetricFamily("smg_worker_health_checks", "Probes of workers", labels=("worker_type", "result"))
        for role_and_result, count in probe_outcomes.items():
            probes.add_metric(role_and_result, count)
        yield probes
        resends = CounterMetricFamily(
            "smg_router_upstream_send_retries", "Requests sent again on another connection", labels=("router_type",)
        )
        resends.add_metric(("http",), self._workers.resends)
        yield resends


class OpenPromptGauges(Collector):
    """Open prompts and their pinned KV, as each worker reported in its last probe."""

    def __init__(self, workers: Registry) -> None:
        self._workers = workers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Metric families; workers without open prompts have no samples."""
        families = (
            ("open", "moa_open_prompts", "Prompts whose end is not known yet"),
            ("pinned", "moa_open_prompt_pinned_tokens", "Tokens of the KV pool that open prompts hold"),
            ("budget", "moa_open_prompt_budget_tokens", "Tokens of the KV pool that they may hold"),
        )
        for key, name, documentation in families:
            family = GaugeMetricFamily(name, documentation, labels=("worker", "role"))
            for worker in self._workers.workers:
                if worker.report.open_prompts is not None:
                    family.add_metric((worker.url, worker.role), worker.report.open_prompts.get(key, 0))
            yield family
