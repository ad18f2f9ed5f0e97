"""A registry of Prometheus metrics as text. Each package registers its own metrics."""

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def metrics_text(registry: CollectorRegistry) -> bytes:
    """All metrics of a registry in Prometheus's text exposition format."""
    return generate_latest(registry)
