"""Prometheus metrics of speculative prefill."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from router.speculative_prefill.speculation import SpeculationStats

TOKEN_BUCKETS = (0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
SECOND_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class OpenPromptMetrics:
    """Counts what open prompts did, by model and transport mode."""

    def __init__(self, registry: CollectorRegistry) -> None:
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
            buckets=TOKEN_BUCKETS,
            registry=registry,
        )
        self._ttft = Histogram(
            "moa_dependent_ttft_seconds",
            "From a dependent's whole prompt to the first piece of its answer",
            labels,
            buckets=SECOND_BUCKETS,
            registry=registry,
        )

    def record(self, model: str, speculation: SpeculationStats, ttft: float | None) -> None:
        """Count a closed prompt; `ttft` in seconds, None when it had no answer."""
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
