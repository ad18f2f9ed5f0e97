"""Prometheus metrics of service discovery, with the names of sglang-router and smg."""

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from router.service_discovery.pods import ChangeReason

SOURCE = "kubernetes"


class DiscoveryMetrics:
    """Counts workers added and removed with their pods, and lists of all pods."""

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
        self._errors = Counter(
            "smg_discovery_snapshot_errors", "Lists and watches that failed", ("source", "reason"), registry=registry
        )
        self._workers = Gauge(
            "smg_discovery_workers_discovered", "Workers that are pods", ("source",), registry=registry
        )

    def registered(self, result: Literal["success", "duplicate", "failed"]) -> None:
        """Count an attempt to add a pod as a worker."""
        self._registrations.labels(SOURCE, result).inc()

    def deregistered(self, reason: ChangeReason) -> None:
        """Count a worker removed with its pod."""
        self._deregistrations.labels(SOURCE, reason).inc()

    def listed(self, seconds: float) -> None:
        """Record how long it took to list all pods and apply the changes."""
        self._sync.labels(SOURCE).observe(seconds)

    def failed(self, reason: Literal["unavailable", "refused", "unexpected"]) -> None:
        """Count a list or a watch of the pods that failed."""
        self._errors.labels(SOURCE, reason).inc()

    def set_worker_count(self, count: Callable[[], int]) -> None:
        """Set the function that returns the number of discovered workers."""
        self._workers.labels(SOURCE).set_function(count)
