"""Spans for an OpenTelemetry collector, where `--enable-trace` asks for them.

A client's request is a span (`request.py`), its requests to workers are that span's children (`legs.py`: what the
rest of the router sees of them; `leg_spans.py`: as spans), and so are the agents of a tree (`agents.py`), whose own
requests are theirs. `export.py` sends them. Only `start_tracing` imports OpenTelemetry, and only when it is asked for.
"""

from typing import TYPE_CHECKING

from router.errors import RouterError
from router.observability.tracing.settings import TraceSettings, address_of

if TYPE_CHECKING:
    from router.observability.tracing.request_span import Tracing

LIBRARY = ("opentelemetry", "grpc", "google")  # the packages that come with the extra


def start_tracing(settings: TraceSettings) -> "Tracing | None":
    """None unless it is asked for; raises `RouterError` when OpenTelemetry is not installed."""
    if not settings.enable_trace:
        return None
    try:
        from router.observability.tracing.request_span import Tracing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in LIBRARY:
            raise
        raise RouterError(
            "--enable-trace needs OpenTelemetry, which is not installed; pip install 'faster-moa[otel]'."
        ) from None
    return Tracing(address_of(settings.otlp_traces_endpoint))
