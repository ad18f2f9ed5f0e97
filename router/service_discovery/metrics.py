"""What discovery counts, under the names of sglang-router 0.3.2."""

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from router.service_discovery.pods import ChangeReason

SOURCE = "kubernetes"


class DiscoveryMetrics:
    """Counts workers that come and go with their pods."""

    def __init__(self, registry: CollectorRegistry, buckets: tuple[float, ...]) -> None:
        self._registrations = Counter(
            "smg_discovery_registrations", "Pods that became workers", ("source", "result"), registry=registry
        )
        self._deregistrations = Counter(
            "smg_discovery_deregistrations", "Workers that went with a pod", ("source", "reason"), registry=registry
        )
        self._sync = Histogram(
            "smg_discovery_sync_duration_seconds", "Lists of all pods", ("source",), buckets=buckets, registry=registry
        )
        self._workers = Gauge(
            "smg_discovery_workers_discovered", "Workers that are pods", ("source",), registry=registry
        )

    def registered(self, result: Literal["success", "duplicate", "failed"]) -> None:
        """A pod is to be a worker."""
        self._registrations.labels(SOURCE, result).inc()

    def deregistered(self, reason: ChangeReason) -> None:
        """A pod is none any more."""
        self._deregistrations.labels(SOURCE, reason).inc()

    def listed(self, seconds: float) -> None:
        """All pods were listed and made workers of."""
        self._sync.labels(SOURCE).observe(seconds)

    def count(self, workers: Callable[[], int]) -> None:
        """Ask this for the number of workers that are pods."""
        self._workers.labels(SOURCE).set_function(workers)
