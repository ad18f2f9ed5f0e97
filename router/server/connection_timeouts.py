"""Counts clients' connections that were closed since they took too long, as a Prometheus metric with smg's name."""

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

Timeout = Literal["header_read", "body_read", "idle", "response_write"]


class ConnectionTimeouts(Collector):
    """The connections of one process that a time limit closed.

    Args:
        registry: Where it is registered; None where nobody reads it.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._counts: Counter[Timeout] = Counter()
        if registry is not None:
            registry.register(self)

    def count(self, timeout: Timeout) -> None:
        """Count a connection: which part was too slow, or that it had no request."""
        self._counts[timeout] += 1

    def collect(self) -> Iterator[Metric]:
        """The metric family."""
        family = CounterMetricFamily(
            "smg_http_connection_timeouts", "Connections closed since a client was too slow", labels=("timeout",)
        )
        for timeout, count in self._counts.items():
            family.add_metric((timeout,), count)
        yield family
