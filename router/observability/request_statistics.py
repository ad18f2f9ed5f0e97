"""Counts finished requests once each, and exposes them to Prometheus as several metric families.

A short request would need nine calls of the Prometheus client, each with a lock: more than choosing its workers costs.
A process answers requests on one thread, so plain numbers do.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class RequestOutcome(NamedTuple):
    """The labels of a finished request.

    Attributes:
        method: The HTTP method.
        path: The path of its route, with variables in braces.
        status: The HTTP status of the response.
        error_code: The kind of the error; empty for a success.
        model: The model it was routed to; empty when it was not routed.
        endpoint: The endpoint's name in metrics of routed requests.
        streaming: Whether the response was a stream.
    """

    method: str
    path: str
    status: int
    error_code: str
    model: str
    endpoint: str
    streaming: bool


LabelsOf = Callable[[RequestOutcome], tuple[str, ...] | None]  # None: not counted in this family


@dataclass(slots=True)
class DurationHistogram:
    """A histogram of durations in seconds.

    Attributes:
        counts: Observations in each bucket; the last bucket has those above the highest bound.
        total: The sum of all observations.
    """

    counts: list[int]
    total: float = 0.0

    def observe(self, bounds: Sequence[float], seconds: float) -> None:
        """Count one duration; an upper bound belongs to its bucket."""
        self.counts[bisect_left(bounds, seconds)] += 1
        self.total += seconds

    def add(self, other: "DurationHistogram") -> None:
        """Add all observations of another histogram with the same bounds."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class RequestStatistics(Collector):
    """Counts and durations of finished requests by their labels.

    Args:
        bounds: The histograms' upper bounds, in seconds, ascending.
        router_labels: Values of `router_type`, `backend_type` and `connection_mode`, the same for all routed requests.
    """

    def __init__(self, bounds: Sequence[float], router_labels: Sequence[str]) -> None:
        self._bounds = tuple(bounds)
        self._router_labels = tuple(router_labels)
        self._durations: dict[RequestOutcome, DurationHistogram] = defaultdict(self._empty)
        self._ttfts: dict[RequestOutcome, DurationHistogram] = defaultdict(self._empty)

    def count(self, outcome: RequestOutcome, duration: float, ttft: float | None) -> None:
        """Count a finished request.

        Args:
            outcome: Its labels.
            duration: Seconds from the request to the end of the response.
            ttft: Seconds from the request to the first chunk of a stream; None without a stream.
        """
        self._durations[outcome].observe(self._bounds, duration)
        if ttft is not None:
            self._ttfts[outcome].observe(self._bounds, ttft)

    def collect(self) -> Iterator[Metric]:
        """The metric families."""
        http, routed = ("method", "path"), ("router_type", "backend_type", "connection_mode", "model", "endpoint")
        yield self._counter("smg_http_requests", "Requests", http, _http_labels)
        yield self._counter(
            "smg_http_responses", "Answers", ("status_code", "error_code"), lambda o: (str(o.status), o.error_code)
        )
        yield self._histogram(
            "smg_http_request_duration_seconds", "From request to end of answer", http, self._durations, _http_labels
        )
        yield self._counter(
            "smg_router_requests",
            "Requests for a model",
            (*routed, "streaming"),
            lambda o: (*labels, "true" if o.streaming else "false") if (labels := self._routed_labels(o)) else None,
        )
        yield self._histogram(
            "smg_router_request_duration_seconds",
            "Of requests for a model",
            routed,
            self._durations,
            self._routed_labels,
        )
        yield self._histogram(
            "smg_router_ttft_seconds",
            "From request to first piece of a streamed answer",
            routed,
            self._ttfts,
            self._routed_labels,
        )

    def _empty(self) -> DurationHistogram:
        return DurationHistogram([0] * (len(self._bounds) + 1))

    def _routed_labels(self, outcome: RequestOutcome) -> tuple[str, ...] | None:
        return (*self._router_labels, outcome.model, outcome.endpoint) if outcome.model else None

    def _counter(self, name: str, help_text: str, label_names: Sequence[str], labels_of: LabelsOf) -> Metric:
        family = CounterMetricFamily(name, help_text, labels=label_names)
        for labels, histogram in self._group(labels_of, self._durations).items():
            family.add_metric(labels, sum(histogram.counts))
        return family

    def _histogram(
        self,
        name: str,
        help_text: str,
        label_names: Sequence[str],
        histograms: dict[RequestOutcome, DurationHistogram],
        labels_of: LabelsOf,
    ) -> Metric:
        family = HistogramMetricFamily(name, help_text, labels=label_names)
        for labels, histogram in self._group(labels_of, histograms).items():
            buckets, cumulative = [], 0
            for bound, count in zip((*self._bounds, float("inf")), histogram.counts, strict=True):
                cumulative += count
                le = floatToGoString(bound)  # type: ignore[no-untyped-call]
                buckets.append((le, float(cumulative)))
            family.add_metric(labels, buckets, histogram.total)
        return family

    def _group(
        self, labels_of: LabelsOf, histograms: dict[RequestOutcome, DurationHistogram]
    ) -> dict[tuple[str, ...], DurationHistogram]:
        """The histograms of requests with the same labels, added up."""
        grouped: dict[tuple[str, ...], DurationHistogram] = defaultdict(self._empty)
        for outcome, histogram in histograms.items():
            labels = labels_of(outcome)
            if labels is not None:
                grouped[labels].add(histogram)
        return grouped


def _http_labels(outcome: RequestOutcome) -> tuple[str, ...]:
    return outcome.method, outcome.path
