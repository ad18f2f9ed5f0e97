"""Prometheus metrics of the workers: health, load, circuit breakers, pinned KV. Names are sglang-router's where they
mean the same.
"""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.workers.circuit_breaker import STATES
from router.workers.registry import Registry


def register_worker_metrics(registry: CollectorRegistry, workers: Registry) -> None:
    """Let Prometheus see these workers."""
    registry.register(WorkerGauges(workers))
    registry.register(OpenPromptGauges(workers))


class WorkerGauges(Collector):
    """What is known of each worker."""

    def __init__(self, workers: Registry) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        """The families, read off the workers now."""

        def gauge(name: str, words: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(name, words, labels=("worker",))

        health = gauge("smg_worker_health", "1 when it may get requests")
        active = gauge("smg_worker_requests_active", "Requests in flight")
        state = gauge("smg_worker_cb_state", "Circuit breaker: " + ", ".join(f"{i} {s}" for i, s in enumerate(STATES)))
        failures = gauge("smg_worker_cb_consecutive_failures", "Failures in a row")
        successes = gauge("smg_worker_cb_consecutive_successes", "Successes in a row while half-open")
        outcomes = CounterMetricFamily("smg_worker_cb_outcomes", "Attempts by outcome", labels=("worker", "outcome"))
        transitions = CounterMetricFamily(
            "smg_worker_cb_transitions", "Changes of the breaker", labels=("worker", "from", "to")
        )
        sizes: Counter[tuple[str, str, str]] = Counter()
        checks: Counter[tuple[str, str]] = Counter()
        for worker in self._workers.workers:
            url = (worker.url,)
            health.add_metric(url, worker.usable)
            active.add_metric(url, worker.load)
            state.add_metric(url, STATES.index(worker.breaker.state))
            failures.add_metric(url, worker.breaker.streaks[0])
            successes.add_metric(url, worker.breaker.streaks[1])
            for outcome in ("success", "failure"):
                outcomes.add_metric((worker.url, outcome), worker.breaker.outcomes[outcome])
                checks[worker.role, outcome] += worker.health_tracker.outcomes[outcome]
            for (before, after), times in worker.breaker.transitions.items():
                transitions.add_metric((worker.url, before, after), times)
            sizes[worker.role, "http", worker.model or "unknown"] += 1
        yield from (health, active, state, failures, successes, outcomes, transitions)
        pool = GaugeMetricFamily("smg_worker_pool_size", "Workers", labels=("worker_type", "connection_mode", "model"))
        for labels, size in sizes.items():
            pool.add_metric(labels, size)
        yield pool
        looks = CounterMetricFamily("smg_worker_health_checks", "Looks at workers", labels=("worker_type", "result"))
        for looked, times in checks.items():
            looks.add_metric(looked, times)
        yield looks


class OpenPromptGauges(Collector):
    """What the workers themselves told when they were last probed."""

    def __init__(self, workers: Registry) -> None:
        self._workers = workers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families, as each worker told when it was last probed."""
        names = (
            ("open", "moa_open_prompts", "Prompts whose end is not known yet"),
            ("pinned", "moa_open_prompt_pinned_tokens", "Tokens of the KV pool that open prompts hold"),
            ("budget", "moa_open_prompt_budget_tokens", "Tokens of the KV pool that they may hold"),
        )
        for key, name, words in names:
            family = GaugeMetricFamily(name, words, labels=("worker", "role"))
            for worker in self._workers.workers:
                if worker.open_prompts is not None:
                    family.add_metric((worker.url, worker.role), worker.open_prompts.get(key, 0))
            yield family
