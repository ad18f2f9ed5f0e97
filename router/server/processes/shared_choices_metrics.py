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
        """Messages by direction, and what was not told."""
        words = "Messages between processes of the router about requests in flight and prompts"
        messages = CounterMetricFamily("moa_process_messages", words, labels=["direction"])
        messages.add_metric(["sent"], self._shared.told)
        messages.add_metric(["received"], self._shared.heard)
        yield messages
        words = "Prompts that another process of the router was not told, since it was away or behind for long"
        yield CounterMetricFamily("moa_process_prompts_dropped", words, self._shared.dropped)
