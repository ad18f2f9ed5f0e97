"""A real OTLP receiver in this process: gRPC on a free port, as an OpenTelemetry collector has it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Received
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from router.observability.tracing.settings import TraceSettings
from tests.router.support.fakes import Call


@dataclass(frozen=True)
class Span:
    """A span as it arrived; ids are in hex, `parent` is empty for a root, times are ns since the epoch."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    state: str
    start: int
    end: int
    failed: bool
    words: str
    attributes: dict[str, Any]
    events: list[tuple[str, int, dict[str, Any]]]

    def carried_by(self, call: Call) -> bool:
        """Whether a worker's spans for this request would be its children."""
        return call.headers["traceparent"].startswith(f"00-{self.trace}-{self.id}-")

    def named(self, event: str) -> list[dict[str, Any]]:
        """The attributes of all events of a name."""
        return [attributes for name, _, attributes in self.events if name == event]


@dataclass
class Collector:
    """What has arrived."""

    port: int
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)

    @property
    def settings(self) -> TraceSettings:
        """Of a router that sends its spans here."""
        return TraceSettings(enable_trace=True, otlp_traces_endpoint=f"127.0.0.1:{self.port}")

    def one(self, name: str) -> Span:
        """The only span of a name."""
        (found,) = (span for span in self.spans if span.name == name)
        return found

    def under(self, parent: Span) -> list[Span]:
        """A span's children, as they began."""
        found = (span for span in self.spans if (span.trace, span.parent) == (parent.trace, parent.id))
        return sorted(found, key=lambda span: span.start)


class _Receiver(TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: ExportTraceServiceRequest, context: object) -> ExportTraceServiceResponse:
        for of_resource in request.resource_spans:
            self._collector.resources.append(_plain(of_resource.resource.attributes))
            for scope in of_resource.scope_spans:
                self._collector.spans.extend(map(_read, scope.spans))
        return ExportTraceServiceResponse()


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens."""
    server = grpc.server(ThreadPoolExecutor(1))
    collector = Collector(server.add_insecure_port("127.0.0.1:0"))
    add_TraceServiceServicer_to_server(_Receiver(collector), server)  # type: ignore[no-untyped-call]
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()


def _read(span: Received) -> Span:
    return Span(
        name=span.name,
        kind=Received.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        state=span.trace_state,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        words=span.status.message,
        attributes=_plain(span.attributes),
        events=[(event.name, event.time_unix_nano, _plain(event.attributes)) for event in span.events],
    )


def _plain(attributes: Any) -> dict[str, Any]:
    def value(told: AnyValue) -> Any:
        if told.HasField("array_value"):
            return [value(each) for each in told.array_value.values]
        kind = told.WhichOneof("value")
        return None if kind is None else getattr(told, kind)

    def pair(told: KeyValue) -> tuple[str, Any]:
        return told.key, value(told.value)

    return dict(map(pair, attributes))
