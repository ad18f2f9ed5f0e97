"""Prometheus metrics of requests to pairs: choices, failures, retries. Names and labels are sglang-router's."""

from collections import Counter as Count
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Summary
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from router.workers.worker import PAIR_ROLES, Pair, Role, Worker


class DispatchMetrics(Collector):
    """Counts attempts of requests.

    Args:
        registry: Where they are registered.
        policies: The name of each role's load-balancing policy.
    """

    def __init__(self, registry: CollectorRegistry, policies: Mapping[Role, str]) -> None:
        self._policies = policies
        self._selected: Count[str] = Count()  # pairs, by model

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(name, words, labels, registry=registry)

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
        """A pair was chosen."""
        self._selected[model] += 1

    def retried(self, endpoint: str, attempt: int, wait: float) -> None:
        """Another attempt follows the one of this number."""
        for role in PAIR_ROLES:
            self._retries.labels(role, endpoint).inc()
        self._backoff.labels(str(attempt)).observe(wait)

    def exhausted(self, endpoint: str) -> None:
        """The last attempt failed too."""
        for role in PAIR_ROLES:
            self._exhausted.labels(role, endpoint).inc()

    def failed(self, pair: Pair, worker: Worker | None, kind: str) -> None:
        """An attempt failed, by the fault of one worker or, where it is not known, of decode's."""
        self._errors.labels((worker or pair.decode).role, "http", kind).inc()

    def collect(self) -> Iterator[Metric]:
        """The choices; they are kept as plain numbers, since every request makes one."""
        choices = CounterMetricFamily(
            "smg_worker_selection", "Choices", labels=("worker_type", "connection_mode", "model", "policy")
        )
        for model, times in self._selected.items():
            for role in PAIR_ROLES:
                choices.add_metric((role, "http", model, self._policies[role]), times)
        yield choices
