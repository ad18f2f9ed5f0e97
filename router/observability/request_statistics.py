"""Counts finished requests once each, and exposes them to Prometheus as several metric families.

A short request would need nine calls of the Prometheus client, each with a lock: more than choosing its workers costs.
A process answers requests on one thread, so plain numbers do.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from router.observability.duration_histogram import DurationHistogram


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
        backend: What served it, as a value of `backend_type`.
    """

    method: str
    path: str
    status: int
    error_code: str
    model: str
    endpoint: str
    streaming: bool
    backend: str


UNKNOWN = "unknown"  # the model of a request that failed before it was routed
NO_FAILURE = (401, 403, 499)  # who may not ask, or has left before the answer
_ERROR_TYPES = {400: "validation_error", 404: "no_workers", 408: "timeout", 429: "rate_limit_error", 504: "timeout"}
_ERROR_TYPES_OF_CODES = {"service_unavailable": "no_workers", "timeout": "timeout", "internal_error": "internal_error"}

LabelsOf = Callable[[RequestOutcome], tuple[str, ...] | None]  # None: not counted in this family


class RequestStatistics(Collector):
    """Counts and durations of finished requests by their labels.

    Args:
        bounds: The histograms' upper bounds, in seconds, ascending.
        router_labels: Values of `router_type` and `connection_mode`, the same for all routed requests.
    """

    def __init__(self, bounds: Sequence[float], router_labels: tuple[str, str]) -> None:
        self._bounds = tuple(bounds)
        self._router_labels = router_labels
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
            "smg_http_responses",
            "Answers",
            ("path", "status_code", "error_code"),
            lambda o: (o.path, str(o.status), o.error_code),
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
        yield self._counter(
            "smg_router_request_errors",
            "Requests for a model that failed",
            (*routed, "error_type"),
            self._error_labels,
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
            ("router_type", "backend_type", "model", "endpoint"),
            self._ttfts,
            self._ttft_labels,
        )

    def _empty(self) -> DurationHistogram:
        return DurationHistogram.empty(self._bounds)

    def _routed_labels(self, outcome: RequestOutcome) -> tuple[str, ...] | None:
        router_type, connection_mode = self._router_labels
        labels = (router_type, outcome.backend, connection_mode, outcome.model, outcome.endpoint)
        return labels if outcome.model else None

    def _ttft_labels(self, outcome: RequestOutcome) -> tuple[str, ...] | None:
        router_type, _ = self._router_labels
        return (router_type, outcome.backend, outcome.model, outcome.endpoint) if outcome.model else None

    def _error_labels(self, outcome: RequestOutcome) -> tuple[str, ...] | None:
        error_type = _error_type(outcome)
        if error_type is None or not outcome.endpoint:
            return None
        labels = self._routed_labels(outcome if outcome.model else outcome._replace(model=UNKNOWN))
        return None if labels is None else (*labels, error_type)

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
            histogram.add_to(family, labels, self._bounds)
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


def _error_type(outcome: RequestOutcome) -> str | None:
    """The kind of failure, in smg's words; None for a success and for `NO_FAILURE`."""
    if outcome.status in NO_FAILURE or (outcome.status < 400 and not outcome.error_code):
        return None
    if (known := _ERROR_TYPES_OF_CODES.get(outcome.error_code) or _ERROR_TYPES.get(outcome.status)) is not None:
        return known
    # An error in a stream that had begun with 200 is the server's, too.
    return "backend_error" if outcome.status >= 500 or outcome.status < 400 else "validation_error"


def _http_labels(outcome: RequestOutcome) -> tuple[str, ...]:
    return outcome.method, outcome.path
