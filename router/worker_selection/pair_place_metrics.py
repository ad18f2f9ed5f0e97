"""Prometheus metrics of places on pairs. Names are smg's where they mean the same."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.worker_selection.pair_places import PairPlaces
from router.workers.registry import Registry


class PairPlaceMetrics(Collector):
    """The decode servers' windows, who waits for places, and who got none."""

    def __init__(self, registry: Registry, places: PairPlaces) -> None:
        self._registry = registry
        self._places = places

    def collect(self) -> Iterator[Metric]:
        """Metric families; without the limits they have no samples."""
        places = self._places
        windows = GaugeMetricFamily("smg_pd_admission_window", "Places of a decode server", labels=("worker",))
        for worker in self._registry.workers:
            window = places.window(worker) if worker.role == "decode" else None
            if window is not None:
                windows.add_metric((worker.url,), window)
        yield windows
        counts: tuple[GaugeMetricFamily | CounterMetricFamily, ...] = (
            GaugeMetricFamily("moa_pair_places_waiting", "Requests that wait for a pair's places", labels=()),
            CounterMetricFamily("smg_pd_admission_waits", "Requests that waited for a decode server", labels=()),
            CounterMetricFamily("smg_pd_admission_sheds", "Requests that got no decode server in time", labels=()),
            CounterMetricFamily("moa_prefill_admission_waits", "Requests that waited for a prefill server", labels=()),
        )
        values = (
            places.waiting,
            places.waits["decode"],
            sum(count for (role, _), count in places.refusals.items() if role == "decode"),
            places.waits["prefill"],
        )
        for family, value in zip(counts, values, strict=True):
            if places.enabled:
                family.add_metric((), value)
            yield family
        rejections = CounterMetricFamily(
            "smg_pd_prefill_admission_rejections", "Requests that got no prefill server in time", labels=("reason",)
        )
        for (role, reason), count in places.refusals.items():
            if role == "prefill":
                rejections.add_metric((reason,), count)
        yield rejections
