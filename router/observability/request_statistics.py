"""What was answered: counted once a request, told to Prometheus in several families.

The prometheus client takes a lock and some Python for each of the nine counts that a short request makes, which is
more than choosing its workers costs. A process answers on one thread, so plain numbers do.
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
    """What is told of a request.

    Attributes:
        method: The HTTP method.
        path: The path as it was routed.
        status: Of the answer.
        error_code: What went wrong; empty when nothing did.
        model: Whom it was routed to; empty when it was not.
        endpoint: Its name in metrics of routed requests.
        streaming: The answer was a stream.
    """

    method: str
    path: str
    status: int
    error_code: str
    model: str
    endpoint: str
    streaming: bool


@dataclass(slots=True)
class DurationHistogram:
    """A histogram: counts by bucket, the last one for all above the highest bound; and the sum in seconds."""

    counts: list[int]
    total: float = 0.0

    def observe(self, bounds: Sequence[float], seconds: float) -> None:
        """Count one; a bound belongs to its bucket."""
        self.counts[bisect_left(bounds, seconds)] += 1
        self.total += seconds

    def add(self, other: "DurationHistogram") -> None:
        """Count all of another one."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


def _where(answered: RequestOutcome) -> tuple[str, ...]:
    return answered.method, answered.path


class RequestStatistics(Collector):
    """Requests by what is told of them.

    Args:
        bounds: The histograms' upper bounds, in seconds, ascending.
        routed: Label values that all routed requests share.
    """

    def __init__(self, bounds: Sequence[float], routed: Sequence[str]) -> None:
        self._bounds = tuple(bounds)
        self._routed = tuple(routed)
        self._took: dict[RequestOutcome, DurationHistogram] = defaultdict(self._none)
        self._first: dict[RequestOutcome, DurationHistogram] = defaultdict(self._none)

    def count(self, answered: RequestOutcome, took: float, first: float | None) -> None:
        """A request is over; in seconds how long it took, and until the first piece of a stream."""
        self._took[answered].observe(self._bounds, took)
        if first is not None:
            self._first[answered].observe(self._bounds, first)

    def collect(self) -> Iterator[Metric]:
        """The families."""
        where, routed = ("method", "path"), ("router_type", "backend_type", "connection_mode", "model", "endpoint")
        yield self._counter("smg_http_requests", "Requests", where, _where)
        yield self._counter(
            "smg_http_responses", "Answers", ("status_code", "error_code"), lambda a: (str(a.status), a.error_code)
        )
        yield self._histogram(
            "smg_http_request_duration_seconds", "From request to end of answer", where, self._took, _where
        )
        yield self._counter(
            "smg_router_requests",
            "Requests for a model",
            (*routed, "streaming"),
            lambda a: (*labels, "true" if a.streaming else "false") if (labels := self._labels(a)) else None,
        )
        yield self._histogram(
            "smg_router_request_duration_seconds", "Of requests for a model", routed, self._took, self._labels
        )
        yield self._histogram(
            "smg_router_ttft_seconds",
            "From request to first piece of a streamed answer",
            routed,
            self._first,
            self._labels,
        )

    def _none(self) -> DurationHistogram:
        return DurationHistogram([0] * (len(self._bounds) + 1))

    def _labels(self, answered: RequestOutcome) -> tuple[str, ...] | None:
        return (*self._routed, answered.model, answered.endpoint) if answered.model else None

    def _counter(
        self, name: str, words: str, labels: Sequence[str], of: Callable[[RequestOutcome], tuple[str, ...] | None]
    ) -> Metric:
        family = CounterMetricFamily(name, words, labels=labels)
        for values, times in self._by(of, self._took).items():
            family.add_metric(values, sum(times.counts))
        return family

    def _histogram(
        self,
        name: str,
        words: str,
        labels: Sequence[str],
        counted: dict[RequestOutcome, DurationHistogram],
        of: Callable[[RequestOutcome], tuple[str, ...] | None],
    ) -> Metric:
        family = HistogramMetricFamily(name, words, labels=labels)
        for values, times in self._by(of, counted).items():
            buckets, so_far = [], 0
            for bound, count in zip((*self._bounds, float("inf")), times.counts, strict=True):
                so_far += count
                le = floatToGoString(bound)  # type: ignore[no-untyped-call]
                buckets.append((le, float(so_far)))
            family.add_metric(values, buckets, times.total)
        return family

    def _by(
        self, of: Callable[[RequestOutcome], tuple[str, ...] | None], counted: dict[RequestOutcome, DurationHistogram]
    ) -> dict[tuple[str, ...], DurationHistogram]:
        """The counted requests, those of the same labels together."""
        found: dict[tuple[str, ...], DurationHistogram] = defaultdict(self._none)
        for answered, times in counted.items():
            values = of(answered)
            if values is not None:
                found[values].add(times)
        return found
