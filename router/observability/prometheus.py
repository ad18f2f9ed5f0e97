"""The registry of Prometheus metrics; each package registers its own."""

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nobody asks for

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def metrics_text(registry: CollectorRegistry) -> bytes:
    """All metrics of a registry in Prometheus's text format."""
    return generate_latest(registry)
