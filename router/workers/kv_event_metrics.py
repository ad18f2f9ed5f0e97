"""Prometheus metrics of the servers' KV events."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.workers.kv_event_monitor import KvEventMonitor


class KvEventMetrics(Collector):
    """What is known of the caches of the servers that a monitor follows."""

    def __init__(self, monitor: KvEventMonitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        """Metric families; only followed servers have samples."""
        blocks = GaugeMetricFamily("moa_worker_kv_blocks", "Blocks that its KV events tell of", labels=("worker",))
        used = GaugeMetricFamily(
            "moa_worker_kv_events_used", "1 when its KV events count, 0 when prompts are guessed", labels=("worker",)
        )
        gaps = CounterMetricFamily("moa_worker_kv_event_gaps", "KV events lost for good", labels=("worker",))
        for worker, stream in self._monitor.streams():
            known = worker.kv_blocks
            blocks.add_metric((worker.url,), 0 if known is None else len(known))
            used.add_metric((worker.url,), known is not None and known.trusted)
            gaps.add_metric((worker.url,), stream.gaps)
        yield from (blocks, used, gaps)
