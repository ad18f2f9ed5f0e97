"""Counters for Prometheus, under `/metrics`."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from router.splice.speculation import Speculation
from router.workers import Registry

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nobody asks for

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
TOKENS = (0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """All metrics of one router.

    Attributes:
        registry: Where other parts of the router register theirs.
    """

    def __init__(self, workers: Registry) -> None:
        self.registry = registry = CollectorRegistry()
        registry.register(_Pinned(workers))
        labels = ("model", "mode")
        self._segments = Counter("moa_segments", "Segments prefilled", labels, registry=registry)
        self._failed = Counter("moa_segments_failed", "Segments refused or lost", labels, registry=registry)
        self._moves = Counter("moa_open_prompt_moves", "Open prompts that changed pairs", labels, registry=registry)
        self._tokens = Counter(
            "moa_speculated_tokens",
            "Tokens prefilled ahead, by whether the final prompt had them",
            (*labels, "outcome"),
            registry=registry,
        )
        self._tail = Histogram(
            "moa_critical_tail_tokens",
            "Tokens left to prefill when a dependent's prompt was whole",
            labels,
            buckets=TOKENS,
            registry=registry,
        )
        self._ttft = Histogram(
            "moa_dependent_ttft_seconds",
            "From a dependent's whole prompt to the first piece of its answer",
            labels,
            buckets=SECONDS,
            registry=registry,
        )

    def open_prompt(self, model: str, speculation: Speculation, ttft: float | None) -> None:
        """A prompt whose life is over; `ttft` in seconds, None when it had no answer."""
        labels = (model, speculation.mode or "blocking")
        self._segments.labels(*labels).inc(speculation.segments)
        self._failed.labels(*labels).inc(speculation.failed)
        self._moves.labels(*labels).inc(speculation.moves)
        self._tokens.labels(*labels, "used").inc(speculation.used)
        self._tokens.labels(*labels, "wasted").inc(speculation.wasted)
        if speculation.tail is not None:
            self._tail.labels(*labels).observe(speculation.tail)
        if ttft is not None:
            self._ttft.labels(*labels).observe(ttft)

    def text(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self.registry)


class _Pinned(Collector):
    """What the workers themselves told when they were last probed."""

    def __init__(self, workers: Registry) -> None:
        self._workers = workers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        names = (
            ("open", "moa_open_prompts", "Prompts whose end is not known yet"),
            ("pinned", "moa_open_prompt_pinned_tokens", "Tokens of the KV pool that open prompts hold"),
            ("budget", "moa_open_prompt_budget_tokens", "Tokens of the KV pool that they may hold"),
        )
        for key, name, words in names:
            family = GaugeMetricFamily(name, words, labels=("worker", "role"))
            for worker in self._workers.workers:
                if worker.open_prompts is not None:
                    family.add_metric((worker.url, worker.role), worker.open_prompts.get(key, 0))
            yield family
