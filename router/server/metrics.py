"""Prometheus metrics of clients' requests, with the peers' names and labels where the meaning is the same."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.endpoints.routes import Route
from router.http.client_request import ClientRequest
from router.observability.duration_histogram import DURATION_BUCKETS
from router.observability.request_statistics import UNKNOWN, RequestOutcome, RequestStatistics
from router.server.admission import AdmissionLimits

AGE_BUCKETS = (30, 60, 180, 300, 600, 1200, 3600, 7200, 14400, 28800, 86400)
ROUTER_LABELS = ("http", "http")  # values of `router_type` and `connection_mode`
BACKENDS = {0: "moa", 1: "regular", 2: "pd"}  # by the number of workers: a tree or a named run has none of its own


class RequestMetrics:
    """Counts finished requests, and reports those in flight at each scrape.

    Args:
        registry: Where the metrics are registered.
        limits: Their decisions and queue are reported.
        requests: The requests in flight.
        buckets: Upper bounds of the duration histograms in seconds; None for `DURATION_BUCKETS`.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        limits: AdmissionLimits,
        requests: set[ClientRequest],
        buckets: tuple[float, ...] | None,
    ) -> None:
        self._statistics = RequestStatistics(buckets or DURATION_BUCKETS, ROUTER_LABELS)
        registry.register(self._statistics)
        registry.register(_ScrapedMetrics(limits, requests))

    def record(self, request: ClientRequest, route: Route | None, error_code: str) -> None:
        """Count a finished request."""
        duration = time.monotonic() - request.started_at
        # The path of the route: paths that clients make up would each be a new time series.
        method, path, endpoint = ("other", "other", "")
        if route is not None:
            method, path, endpoint = request.method, route.path, route.endpoint
        model = request.model if endpoint and request.model is not None else ""
        backend = BACKENDS[len(request.workers)] if model else UNKNOWN
        outcome = RequestOutcome(method, path, request.status, error_code, model, endpoint, request.streaming, backend)
        ttft = (
            request.first_chunk_at - request.started_at
            if request.streaming and request.first_chunk_at is not None
            else None
        )
        self._statistics.count(outcome, duration, ttft)


class _ScrapedMetrics(Collector):
    """Metrics that are computed when Prometheus scrapes them."""

    def __init__(self, limits: AdmissionLimits, requests: set[ClientRequest]) -> None:
        self._limits = limits
        self._requests = requests

    def collect(self) -> Iterator[Metric]:
        now = time.monotonic()
        ages = [now - request.started_at for request in self._requests]
        yield GaugeMetricFamily("smg_http_connections_active", "Requests that are being answered", len(ages))
        count = GaugeMetricFamily(
            "smg_http_inflight_request_age_count", "Requests in flight by age in seconds", labels=("gt", "le")
        )
        for low, high in zip((0, *AGE_BUCKETS), (*AGE_BUCKETS, float("inf")), strict=True):
            upper = "+Inf" if high == float("inf") else str(high)
            count.add_metric((str(low), upper), sum(low < age <= high for age in ages))
        yield count
        decisions = CounterMetricFamily("smg_http_rate_limit", "Decisions of the limits", labels=("result",))
        for result in ("allowed", "rejected"):
            decisions.add_metric((result,), self._limits.decisions[result])
        yield decisions
        gate = self._limits.gate
        if gate is not None:
            yield GaugeMetricFamily("smg_admission_inflight", "Requests that are let in", gate.running)
            yield GaugeMetricFamily("smg_admission_queue_depth", "Requests that wait for their turn", gate.waiting)
            refused = CounterMetricFamily(
                "smg_admission_queue_rejected", "Requests that could not wait, or waited too long", labels=("reason",)
            )
            for reason, count_refused in gate.refused.items():
                refused.add_metric((reason,), count_refused)
            yield refused
        yield GaugeMetricFamily("moa_queue_length", "Requests that wait for their turn", gate.waiting if gate else 0)
