"""Prometheus metrics of requests to workers: selections, failures, retries. Names and labels are the peers'."""

from collections import Counter as Count
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from router.workers.metrics import ROLE_LABELS
from router.workers.worker import PAIR_ROLES, Role, Worker

BACKOFF_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ForwardingMetrics(Collector):
    """Counts selected workers, failed attempts and retries.

    Args:
        registry: Where the metrics are registered.
        policies: The name of each role's load-balancing policy.
    """

    def __init__(self, registry: CollectorRegistry, policies: Mapping[Role, str]) -> None:
        self._policies = policies
        self._responses: Count[int] = Count()  # by status
        self._selected: Count[tuple[str, bool]] = Count()  # by model, and whether the worker was a plain server

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, labels, registry=registry)

        self._retries = counter("smg_worker_retries", "Attempts after the first", "worker_type", "endpoint")
        self._exhausted = counter(
            "smg_worker_retries_exhausted", "Requests that no attempt could serve", "worker_type", "endpoint"
        )
        self._backoff = Histogram(
            "smg_worker_retry_backoff_seconds",
            "Waits between attempts",
            ("attempt",),
            buckets=BACKOFF_BUCKETS,
            registry=registry,
        )
        self._errors = counter("smg_worker_errors", "Failed attempts", "worker_type", "connection_mode", "error_type")
        registry.register(self)

    def selected(self, model: str, workers: Sequence[Worker]) -> None:
        """Count the workers that were chosen: a pair, or a plain server."""
        self._selected[model, len(workers) == 1] += 1

    def responded(self, status: int) -> None:
        """Count a response with this status: decode's, or a plain server's."""
        self._responses[status] += 1

    def retried(self, endpoint: str, workers: Sequence[Worker], attempt: int, backoff: float) -> None:
        """Count a retry after attempt number `attempt` on these workers and a backoff in seconds."""
        for worker in workers:
            self._retries.labels(ROLE_LABELS[worker.role], endpoint).inc()
        self._backoff.labels(str(attempt)).observe(backoff)

    def exhausted(self, endpoint: str, workers: Sequence[Worker]) -> None:
        """Count a request whose last attempt failed."""
        for worker in workers:
            self._exhausted.labels(ROLE_LABELS[worker.role], endpoint).inc()

    def failed(self, worker: Worker, error_type: str) -> None:
        """Count a failed attempt for the worker at fault, or for the one that should have answered."""
        self._errors.labels(ROLE_LABELS[worker.role], "http", error_type).inc()

    def collect(self) -> Iterator[Metric]:
        """What every request counts; plain numbers until they are read."""
        selections = CounterMetricFamily(
            "smg_worker_selection", "Choices", labels=("worker_type", "connection_mode", "model", "policy")
        )
        for (model, plain), count in self._selected.items():
            roles: tuple[Role, ...] = ("plain",) if plain else PAIR_ROLES
            for role in roles:
                selections.add_metric((ROLE_LABELS[role], "http", model, self._policies[role]), count)
        yield selections
        responses = CounterMetricFamily(
            "smg_router_upstream_responses",
            "Responses to attempts of clients' requests",
            labels=("router_type", "status_code", "error_code"),
        )
        for status, count in self._responses.items():
            responses.add_metric(("http", str(status), ""), count)
        yield responses
