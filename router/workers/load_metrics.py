"""Prometheus metrics of the servers' own load."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.workers.load_monitor import LoadMonitor
from router.workers.rank_load import OF_PAIR, OF_RANK
from router.workers.worker import UNKNOWN_MODEL


class LoadMetrics(Collector):
    """What the servers of a monitor report, and whether they do."""

    def __init__(self, monitor: LoadMonitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        """Metric families; those of workers that are not asked have no samples."""
        asked = CounterMetricFamily("smg_engine_load_polls", "Questions for the load", labels=("worker", "mode"))
        failed = CounterMetricFamily("moa_worker_load_poll_failures", "Those without a load", labels=("worker",))
        stale = GaugeMetricFamily(
            "moa_worker_load_stale", "1 when there is no fresh report: own requests count", labels=("worker",)
        )
        requests = GaugeMetricFamily(
            "moa_worker_reported_requests", "Requests on it, whoever sent them", labels=("worker",)
        )
        for worker in self._monitor.workers:
            polls = self._monitor.polls.get(worker)
            if polls is None:
                continue
            asked.add_metric((worker.url, "poll"), polls.asked)
            failed.add_metric((worker.url,), polls.failed)
            stale.add_metric((worker.url,), worker.server_load is None)
            if worker.server_load is not None:
                requests.add_metric((worker.url,), worker.server_load.requests)
        yield from (asked, failed, stale, requests)
        yield from self._engines()

    def _engines(self) -> Iterator[Metric]:
        """What the ranks of the servers say; those that say nothing now have no samples."""
        of_rank = {
            name: GaugeMetricFamily(name, words, labels=("worker", "model", "dp_rank"))
            for name, (words, _) in OF_RANK.items()
        }
        of_pair = {
            name: GaugeMetricFamily(name, words, labels=("worker", "role", "dp_rank"))
            for name, (words, _) in OF_PAIR.items()
        }
        for worker in self._monitor.workers:
            for load in () if worker.server_load is None else worker.server_load.by_rank:
                rank = str(load.rank)
                for name, value in load.values.items():
                    if name in of_rank:
                        of_rank[name].add_metric((worker.url, worker.model or UNKNOWN_MODEL, rank), value)
                    elif load.role is not None:
                        of_pair[name].add_metric((worker.url, load.role, rank), value)
        yield from (*of_rank.values(), *of_pair.values())
