"""Sends spans to a collector, from a thread of its own.

OpenTelemetry's own environment variables hold where no flag does: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
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

SERVICE = "faster-moa-router"
PAUSE = 60.0  # seconds between two complaints of one kind
FLUSH_TIMEOUT = 3.0  # seconds in the end for the last spans
GIVE_UP_TIMEOUT = 1.0  # seconds after that for the thread


class SpanExporter:
    """The way to one collector, which may come and go: spans that it does not take are dropped.

    Attributes:
        tracer: Makes the spans.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._complaints = RateLimitedHandler()
        library = logging.getLogger("opentelemetry")
        library.handlers, library.propagate = [self._complaints], False
        self._exporter = OTLPSpanExporter(endpoint, insecure=True)
        # Not at the process's exit: `stop` does it, within bounds.
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self.tracer = self._provider.get_tracer("router")

    async def stop(self) -> None:
        """Send the last spans; give them up when the collector does not take them in time."""
        # A daemon, as the exporter's own thread is: neither holds the process.
        stopping = threading.Thread(target=self._provider.shutdown, daemon=True)
        stopping.start()
        if await _ended(stopping, FLUSH_TIMEOUT):
            return
        logger.warning("the collector %s did not take the last spans within %g s.", self._endpoint, FLUSH_TIMEOUT)
        self._complaints.setLevel(logging.CRITICAL)
        self._exporter.shutdown()
        await _ended(stopping, GIVE_UP_TIMEOUT)


class RateLimitedHandler(logging.Handler):
    """Passes on one line of each of OpenTelemetry's loggers in `PAUSE` seconds, and tells how many it left out."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """A line of OpenTelemetry's, from any thread."""
        now = time.monotonic()
        last, left_out = self._seen.get(record.name, (-PAUSE, 0))
        if now - last < PAUSE:
            self._seen[record.name] = (last, left_out + 1)
            return
        self._seen[record.name] = (now, 0)
        more = f" ({left_out} lines were left out)" if left_out else ""
        logger.log(record.levelno, "%s%s", record.getMessage(), more, exc_info=record.exc_info)


async def _ended(thread: threading.Thread, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while thread.is_alive() and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread has no event for it
        await asyncio.sleep(0.005)
    return not thread.is_alive()


def _resource() -> Resource:
    found = Resource.create()
    if not str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return found
    return found.merge(Resource({SERVICE_NAME: SERVICE}))
