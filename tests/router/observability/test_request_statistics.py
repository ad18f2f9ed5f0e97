"""Counts of answers, held against the prometheus client's own."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from router.observability.request_statistics import RequestOutcome, RequestStatistics

BOUNDS = (0.001, 0.5, 1.0, 240.0)

answers = st.builds(
    RequestOutcome,
    method=st.sampled_from(["GET", "POST"]),
    path=st.sampled_from(["/generate", "/metrics"]),
    status=st.sampled_from([200, 503]),
    error_code=st.sampled_from(["", "no_worker"]),
    model=st.sampled_from(["", "tiny", 'odd "name"']),
    endpoint=st.just("generate"),
    streaming=st.booleans(),
    backend=st.sampled_from(["pd", "regular"]),
)
seconds = st.one_of(st.sampled_from([0.0, *BOUNDS, 1e4]), st.floats(0, 300))


@given(st.lists(st.tuples(answers, seconds, st.none() | seconds), max_size=20))
def test_the_same_as_the_client_counts(requests: list[tuple[RequestOutcome, float, float | None]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = RequestStatistics(BOUNDS, ("http", "http"))
    ours.register(tally)
    where, routed = ("method", "path"), ("router_type", "backend_type", "connection_mode", "model", "endpoint")
    http = Counter("smg_http_requests", "", where, registry=theirs)
    responses = Counter("smg_http_responses", "", ("path", "status_code", "error_code"), registry=theirs)
    errors = Counter("smg_router_request_errors", "", (*routed, "error_type"), registry=theirs)
    duration = Histogram("smg_http_request_duration_seconds", "", where, buckets=BOUNDS, registry=theirs)
    of_models = Counter("smg_router_requests", "", (*routed, "streaming"), registry=theirs)
    took_models = Histogram("smg_router_request_duration_seconds", "", routed, buckets=BOUNDS, registry=theirs)
    shorter = ("router_type", "backend_type", "model", "endpoint")
    ttft = Histogram("smg_router_ttft_seconds", "", shorter, buckets=BOUNDS, registry=theirs)
    for answered, took, first in requests:
        tally.count(answered, took, first)
        http.labels(answered.method, answered.path).inc()
        responses.labels(answered.path, str(answered.status), answered.error_code).inc()
        duration.labels(answered.method, answered.path).observe(took)
        if answered.status == 503 or answered.error_code:
            failed = ("http", answered.backend, "http", answered.model or "unknown", answered.endpoint)
            errors.labels(*failed, "backend_error").inc()
        if answered.model:
            labels = ("http", answered.backend, "http", answered.model, answered.endpoint)
            of_models.labels(*labels, "true" if answered.streaming else "false").inc()
            took_models.labels(*labels).observe(took)
            if first is not None:
                ttft.labels("http", answered.backend, answered.model, answered.endpoint).observe(first)
    assert _lines(ours) == _lines(theirs)


def _lines(registry: CollectorRegistry) -> dict[str, float]:
    """Samples, sums rounded, without the times of creation that only the client tells."""
    lines = [line.rpartition(" ") for line in generate_latest(registry).decode().splitlines() if line[0] != "#"]
    return {name: round(float(value), 6) for name, _, value in lines if "_created" not in name}
