"""Sends spans to a collector over OTLP/gRPC, from OpenTelemetry's own thread.

OpenTelemetry's environment variables apply where the router has no flag: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
OTEL_TRACES_SAMPLER, OTEL_BSP_* and OTEL_EXPORTER_OTLP_*.
"""

import asyncio
import logging
import threading
import time

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

logger = logging.getLogger(__name__)

DEFAULT_SERVICE_NAME = "faster-moa-router"
LOG_INTERVAL = 60.0  # seconds between two lines of one logger
FLUSH_TIMEOUT = 3.0  # seconds to send the last spans
ABORT_TIMEOUT = 1.0  # seconds after that for the thread to end


class SpanExporter:
    """Exports spans to one collector; spans that it does not take are dropped.

    Attributes:
        tracer: Creates the spans.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._log_handler = RateLimitedHandler()
        otel_logger = logging.getLogger("opentelemetry")
        otel_logger.handlers, otel_logger.propagate = [self._log_handler], False
        self._exporter = OTLPSpanExporter(endpoint, insecure=True)
        # No shutdown at the process's exit: `stop` does it, within a timeout.
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.tracer = self._provider.get_tracer("router")

    async def stop(self) -> None:
        """Send the last spans; drop them after `FLUSH_TIMEOUT`."""
        # A daemon, as the exporter's own thread is: neither keeps the process alive.
        shutdown = threading.Thread(target=self._provider.shutdown, daemon=True)
        shutdown.start()
        if await _ends_within(shutdown, FLUSH_TIMEOUT):
            return
        logger.warning("the collector %s did not take the last spans within %g s.", self._endpoint, FLUSH_TIMEOUT)
        self._log_handler.setLevel(logging.CRITICAL)
        self._exporter.shutdown()
        await _ends_within(shutdown, ABORT_TIMEOUT)


class RateLimitedHandler(logging.Handler):
    """Logs at most one line of each OpenTelemetry logger per `LOG_INTERVAL`, with the number of lines left out."""

    def __init__(self) -> None:
        super().__init__()
        # By logger: when its last line was logged, and how many were left out since.
        self._last_logged: dict[str, tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record of OpenTelemetry, from any thread."""
        now = time.monotonic()
        logged_at, left_out = self._last_logged.get(record.name, (-LOG_INTERVAL, 0))
        if now - logged_at < LOG_INTERVAL:
            self._last_logged[record.name] = (logged_at, left_out + 1)
            return
        self._last_logged[record.name] = (now, 0)
        suffix = f" ({left_out} lines were left out)" if left_out else ""
        logger.log(record.levelno, "%s%s", record.getMessage(), suffix, exc_info=record.exc_info)


async def _ends_within(thread: threading.Thread, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while thread.is_alive() and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread has no event for it
        await asyncio.sleep(0.005)
    return not thread.is_alive()


def _resource() -> Resource:
    resource = Resource.create()
    if not str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return resource
    return resource.merge(Resource({SERVICE_NAME: DEFAULT_SERVICE_NAME}))
