"""How long the legs of exchanges take, as Prometheus metrics with smg's names."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from router.dispatch.exchange import Exchange
from router.observability.duration_histogram import DURATION_BUCKETS, DurationHistogram
from router.workers.worker import UNKNOWN_MODEL

RUNTIME = "sglang"  # no other server is one of a pair


class PairTimes(Collector):
    """Prefill's whole leg, and the time to decode's first output, by model.

    Args:
        bounds: The histograms' upper bounds, in seconds, ascending.
        registry: Where it is registered; None registers it nowhere.
    """

    def __init__(self, bounds: Sequence[float] = DURATION_BUCKETS, registry: CollectorRegistry | None = None) -> None:
        self._bounds = tuple(bounds)
        self._prefill: dict[str, DurationHistogram] = defaultdict(self._empty)
        self._ttft: dict[str, DurationHistogram] = defaultdict(self._empty)
        if registry is not None:
            registry.register(self)

    def record(self, exchange: Exchange) -> None:
        """Count the times of an exchange that has ended, as far as it got; a refused one does not count."""
        model = exchange.pair.decode.model or UNKNOWN_MODEL
        if exchange.prefill_ended_at is not None:
            self._prefill[model].observe(self._bounds, exchange.prefill_ended_at - exchange.started_at)
        if exchange.first_chunk_at is not None and exchange.decode.status < 400:
            self._ttft[model].observe(self._bounds, exchange.first_chunk_at - exchange.started_at)

    def collect(self) -> Iterator[Metric]:
        """The metric families."""
        yield self._family("smg_pd_prefill_duration_seconds", "From request to end of prefill's answer", self._prefill)
        yield self._family("smg_pd_ttft_seconds", "From request to first piece of decode's answer", self._ttft)

    def _empty(self) -> DurationHistogram:
        return DurationHistogram.empty(self._bounds)

    def _family(self, name: str, help_text: str, by_model: dict[str, DurationHistogram]) -> Metric:
        family = HistogramMetricFamily(name, help_text, labels=("backend_type", "model", "runtime"))
        for model, histogram in by_model.items():
            histogram.add_to(family, ("pd", model, RUNTIME), self._bounds)
        return family
