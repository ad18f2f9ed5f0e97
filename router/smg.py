"""Metrics under the names of sglang-router 0.3.2, with its labels, where they mean the same here."""

import time
from collections import Counter as Count
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Summary
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.breaker import STATES
from router.call import Call
from router.limits import Limits
from router.routes import Route
from router.tally import Answered, Tally
from router.workers import ROLES, Pair, Registry, Worker

SECONDS = (
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 45.0, 60.0, 90.0,
    120.0, 180.0, 240.0,
)  # fmt: skip
AGES = (30, 60, 180, 300, 600, 1200, 3600, 7200, 14400, 28800, 86400)
KIND = ("http", "pd", "http")  # of routers, backends and connections


class GatewayMetrics:
    """Counts what happens; what can be read off the workers is read when Prometheus asks."""

    def __init__(
        self,
        registry: CollectorRegistry,
        workers: Registry,
        limits: Limits,
        calls: set[Call],
        policies: dict[str, str],
        buckets: tuple[float, ...] | None,
    ) -> None:
        self._selected: Count[str] = Count()  # pairs, by model
        self._tally = Tally(buckets or SECONDS, KIND)

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(name, words, labels, registry=registry)

        self._retries = counter("smg_worker_retries", "Attempts after the first", "worker_type", "endpoint")
        self._exhausted = counter(
            "smg_worker_retries_exhausted", "Requests that no attempt could serve", "worker_type", "endpoint"
        )
        self._backoff = Summary(
            "smg_worker_retry_backoff_seconds", "Waits between attempts", ("attempt",), registry=registry
        )
        self._errors = counter("smg_worker_errors", "Failed attempts", "worker_type", "connection_mode", "error_type")
        registry.register(self._tally)
        registry.register(_State(workers, limits, calls, self._selected, policies))

    def answered(self, call: Call, route: Route | None, error_code: str) -> None:
        """A request whose answer is over."""
        took = time.monotonic() - call.began
        # The path as it was routed: one that a client made up would be a new series for ever.
        method, path, endpoint = ("other", "other", "")
        if route is not None:
            method, path, endpoint = call.method, route.path, route.endpoint
        model = call.model if endpoint and call.model is not None else ""
        answered = Answered(method, path, call.status, error_code, model, endpoint, call.streaming)
        first = call.first - call.began if call.streaming and call.first is not None else None
        self._tally.count(answered, took, first)

    def selected(self, model: str) -> None:
        """A pair was chosen."""
        self._selected[model] += 1

    def retried(self, endpoint: str, attempt: int, wait: float) -> None:
        """Another attempt follows the one of this number."""
        for role in ROLES:
            self._retries.labels(role, endpoint).inc()
        self._backoff.labels(str(attempt)).observe(wait)

    def exhausted(self, endpoint: str) -> None:
        """The last attempt failed too."""
        for role in ROLES:
            self._exhausted.labels(role, endpoint).inc()

    def failed(self, pair: Pair, worker: Worker | None, kind: str) -> None:
        """An attempt failed, by the fault of one worker or, where it is not known, of decode's."""
        self._errors.labels((worker or pair.decode).role, "http", kind).inc()


class _State(Collector):
    """What can be read off at the moment that Prometheus asks."""

    def __init__(
        self, workers: Registry, limits: Limits, calls: set[Call], selected: Count[str], policies: dict[str, str]
    ) -> None:
        self._workers = workers
        self._limits = limits
        self._calls = calls
        self._selected = selected
        self._policies = policies

    def collect(self) -> Iterator[Metric]:
        yield from self._of_workers()
        yield from self._of_calls()
        choices = CounterMetricFamily(
            "smg_worker_selection", "Choices", labels=("worker_type", "connection_mode", "model", "policy")
        )
        for model, times in self._selected.items():
            for role in ROLES:
                choices.add_metric((role, "http", model, self._policies[role]), times)
        yield choices

    def _of_workers(self) -> Iterator[Metric]:
        def gauge(name: str, words: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(name, words, labels=("worker",))

        health = gauge("smg_worker_health", "1 when it may get requests")
        active = gauge("smg_worker_requests_active", "Requests in flight")
        state = gauge("smg_worker_cb_state", "Circuit breaker: " + ", ".join(f"{i} {s}" for i, s in enumerate(STATES)))
        failures = gauge("smg_worker_cb_consecutive_failures", "Failures in a row")
        successes = gauge("smg_worker_cb_consecutive_successes", "Successes in a row while half-open")
        outcomes = CounterMetricFamily("smg_worker_cb_outcomes", "Attempts by outcome", labels=("worker", "outcome"))
        transitions = CounterMetricFamily(
            "smg_worker_cb_transitions", "Changes of the breaker", labels=("worker", "from", "to")
        )
        sizes: Count[tuple[str, str, str]] = Count()
        checks: Count[tuple[str, str]] = Count()
        for worker in self._workers.workers:
            url = (worker.url,)
            health.add_metric(url, worker.usable)
            active.add_metric(url, worker.load)
            state.add_metric(url, STATES.index(worker.breaker.state))
            failures.add_metric(url, worker.breaker.streaks[0])
            successes.add_metric(url, worker.breaker.streaks[1])
            for outcome in ("success", "failure"):
                outcomes.add_metric((worker.url, outcome), worker.breaker.outcomes[outcome])
                checks[worker.role, outcome] += worker.looks.outcomes[outcome]
            for (before, after), times in worker.breaker.transitions.items():
                transitions.add_metric((worker.url, before, after), times)
            sizes[worker.role, "http", worker.model or "unknown"] += 1
        yield from (health, active, state, failures, successes, outcomes, transitions)
        pool = GaugeMetricFamily("smg_worker_pool_size", "Workers", labels=("worker_type", "connection_mode", "model"))
        for labels, size in sizes.items():
            pool.add_metric(labels, size)
        yield pool
        looks = CounterMetricFamily("smg_worker_health_checks", "Looks at workers", labels=("worker_type", "result"))
        for looked, times in checks.items():
            looks.add_metric(looked, times)
        yield looks

    def _of_calls(self) -> Iterator[Metric]:
        now = time.monotonic()
        ages = [now - call.began for call in self._calls]
        yield GaugeMetricFamily("smg_http_connections_active", "Requests that are being answered", len(ages))
        count = GaugeMetricFamily(
            "smg_http_inflight_request_age_count", "Requests in flight by age in seconds", labels=("gt", "le")
        )
        for low, high in zip((0, *AGES), (*AGES, float("inf")), strict=True):
            told = "+Inf" if high == float("inf") else str(high)
            count.add_metric((str(low), told), sum(low < age <= high for age in ages))
        yield count
        limited = CounterMetricFamily("smg_http_rate_limit", "Decisions of the limits", labels=("result",))
        for result in ("allowed", "rejected"):
            limited.add_metric((result,), self._limits.decisions[result])
        yield limited
        gate = self._limits.gate
        yield GaugeMetricFamily("moa_queue_length", "Requests that wait for their turn", gate.waiting if gate else 0)
