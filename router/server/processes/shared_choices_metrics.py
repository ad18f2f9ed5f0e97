"""Prometheus metrics of what the processes of a router tell each other."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from router.server.processes.shared_choices import SharedChoices


class SharedChoicesMetrics(Collector):
    """Computed when Prometheus scrapes it.

    Args:
        shared: What tells the other processes.
    """

    def __init__(self, shared: SharedChoices) -> None:
        self._shared = shared

    def collect(self) -> Iterator[Metric]:
        """Messages by what became of them."""
        words = "Messages between processes of the router about requests in flight and prompts"
        messages = CounterMetricFamily("moa_process_messages", words, labels=["outcome"])
        for outcome in ("told", "lost", "heard"):
            messages.add_metric([outcome], getattr(self._shared, outcome))
        yield messages
