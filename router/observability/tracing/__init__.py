"""OpenTelemetry spans, sent to a collector with `--enable-trace`.

Only `start_tracing` imports the modules that need OpenTelemetry, and only with the flag.
"""

from typing import TYPE_CHECKING

from router.errors import RouterError
from router.observability.tracing.settings import TraceSettings, collector_address

if TYPE_CHECKING:
    from router.observability.tracing.request_span import Tracing

OTEL_PACKAGES = ("opentelemetry", "grpc", "google")  # of the extra `otel`


def start_tracing(settings: TraceSettings, *, redact_text: bool = False) -> "Tracing | None":
    """The router's tracing, or None without the flag.

    Args:
        settings: The flags.
        redact_text: Whether spans leave out what may quote prompts and answers.

    Raises:
        RouterError: OpenTelemetry is not installed.
    """
    if not settings.enable_trace:
        return None
    try:
        from router.observability.tracing.request_span import Tracing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OTEL_PACKAGES:
            raise
        raise RouterError(
            "--enable-trace needs OpenTelemetry, which is not installed; pip install 'faster-moa[otel]'."
        ) from None
    return Tracing(collector_address(settings.otlp_traces_endpoint), redact_text=redact_text)
