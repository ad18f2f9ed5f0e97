"""Prometheus metrics of requests to pairs: selections, failures, retries. Names and labels are sglang-router's."""

from collections import Counter as Count
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Summary
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from router.workers.worker import PAIR_ROLES, Pair, Role, Worker


class DispatchMetrics(Collector):
    """Counts selected pairs, failed attempts and retries.

    Args:
        registry: Where the metrics are registered.
        policies: The name of each role's load-balancing policy.
    """

    def __init__(self, registry: CollectorRegistry, policies: Mapping[Role, str]) -> None:
        self._policies = policies
        self._selected_pairs: Count[str] = Count()  # by model

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, labels, registry=registry)

        self._retries = counter("smg_worker_retries", "Attempts after the first", "worker_type", "endpoint")
        self._exhausted = counter(
            "smg_worker_retries_exhausted", "Requests that no attempt could serve", "worker_type", "endpoint"
        )
        self._backoff = Summary(
            "smg_worker_retry_backoff_seconds", "Waits between attempts", ("attempt",), registry=registry
        )
        self._errors = counter("smg_worker_errors", "Failed attempts", "worker_type", "connection_mode", "error_type")
        registry.register(self)

    def selected(self, model: str) -> None:
        """Count a pair that was chosen."""
        self._selected_pairs[model] += 1

    def retried(self, endpoint: str, attempt: int, backoff: float) -> None:
        """Count a retry after attempt number `attempt` and a backoff in seconds."""
        for role in PAIR_ROLES:
            self._retries.labels(role, endpoint).inc()
        self._backoff.labels(str(attempt)).observe(backoff)

    def exhausted(self, endpoint: str) -> None:
        """Count a request whose last attempt failed."""
        for role in PAIR_ROLES:
            self._exhausted.labels(role, endpoint).inc()

    def failed(self, pair: Pair, worker: Worker | None, error_type: str) -> None:
        """Count a failed attempt for the worker at fault, or for decode if that is not known."""
        self._errors.labels((worker or pair.decode).role, "http", error_type).inc()

    def collect(self) -> Iterator[Metric]:
        """The selections. They are plain numbers until they are read, since every request makes one."""
        selections = CounterMetricFamily(
            "smg_worker_selection", "Choices", labels=("worker_type", "connection_mode", "model", "policy")
        )
        for model, count in self._selected_pairs.items():
            for role in PAIR_ROLES:
                selections.add_metric((role, "http", model, self._policies[role]), count)
        yield selections
