"""Requests to workers as OpenTelemetry spans."""

from types import TracebackType

from opentelemetry.context import Context
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from router.errors import RouterError, UpstreamFailed, UpstreamTimeout
from router.observability.tracing.leg_tracer import ExchangeTrace, Headers, LegTrace, TracedPair, TracedWorker

PROPAGATOR = TraceContextTextMapPropagator()


class ParentSpan:
    """A span whose children are requests to workers; a `LegTracer`.

    Args:
        tracer: Creates spans.
        span: The span.
        redact_text: Whether errors are told by their kind alone: their sentences may quote prompts and answers.
    """

    def __init__(self, tracer: Tracer, span: Span, *, redact_text: bool = False) -> None:
        self._redact_text = redact_text
        self._tracer = tracer
        self._span = span
        # An explicit context: without one, each new span would look up the current span.
        self._context = set_span_in_context(span, Context())
        self._attempts = 0

    @property
    def ids(self) -> tuple[str, str]:
        """The ids of its trace and of itself, in hex as in `traceparent`."""
        context = self._span.get_span_context()
        return format_trace_id(context.trace_id), format_span_id(context.span_id)

    def start_leg(self, worker: TracedWorker, path: str, model: str | None = None, method: str = "POST") -> "LegSpan":
        """A request to one worker starts."""
        self._attempts += 1
        return self._start_leg(worker, path, model, method)

    def start_exchange(self, pair: TracedPair, path: str) -> "ExchangeSpans":
        """The two requests of an exchange start."""
        self._attempts += 1
        return ExchangeSpans(self._start_leg(pair.prefill, path), self._start_leg(pair.decode, path))

    @property
    def trace_headers(self) -> Headers:
        """Headers with which a request makes the receiver's spans children of this one."""
        return _trace_headers(self._context)

    def propagate_only(self) -> "PropagateOnlyTracer":
        """A tracer that makes no spans; its requests carry this span's headers."""
        return PropagateOnlyTracer(self.trace_headers)

    def _start_leg(self, worker: TracedWorker, path: str, model: str | None = None, method: str = "POST") -> "LegSpan":
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "url.full": worker.url + path,
            "server.address": worker.host,
            "server.port": worker.port,
            "moa.worker.role": worker.role,
        }
        if (model := model or worker.model) is not None:
            attributes["gen_ai.request.model"] = model
        if self._attempts > 1:
            attributes["http.request.resend_count"] = self._attempts - 1
        span = self._tracer.start_span(f"{worker.role} {path}", self._context, SpanKind.CLIENT, attributes)
        return LegSpan(span, redact_text=self._redact_text)


class PropagateOnlyTracer:
    """A `LegTracer` that makes no spans and only passes trace headers on."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def start_leg(self, worker: TracedWorker, path: str, model: str | None = None, method: str = "POST") -> LegTrace:
        """A request to one worker starts."""
        return LegTrace(self._headers)

    def start_exchange(self, pair: TracedPair, path: str) -> ExchangeTrace:
        """The two requests of an exchange start."""
        return ExchangeTrace((self._headers, self._headers))

    def propagate_only(self) -> "PropagateOnlyTracer":
        """Itself."""
        return self


class LegSpan(LegTrace):
    """A request to one worker as a span. `end` may be called several times; the first call counts."""

    def __init__(self, span: Span, *, redact_text: bool = False) -> None:
        super().__init__(_trace_headers(set_span_in_context(span, Context())))
        self._span = span
        self._redact_text = redact_text
        self._status: int | None = None
        self._ended = False

    @property
    def refused(self) -> bool:
        """Whether the worker responded with an error."""
        return self._status is not None and self._status >= 400

    def response_started(self, status: int) -> None:
        """The response's status and headers have arrived; a status of 0 is ignored."""
        if status == 0:
            return
        self._status = status
        self._span.set_attribute("http.response.status_code", status)

    def end(self, error: BaseException | None = None, *, aborted: bool = False) -> None:
        """End the span.

        Args:
            error: Why the request failed, if it did.
            aborted: Whether the router gave the request up; such a span is no error.
        """
        if self._ended:
            return
        self._ended = True
        if aborted:
            self._span.set_attribute("moa.aborted", True)
        elif error is not None:
            mark_failed(self._span, error_type(error), None if self._redact_text else str(error))
        elif self.refused:
            mark_failed(self._span, str(self._status))
        self._span.end()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error, aborted=not isinstance(error, Exception | None))


class ExchangeSpans(ExchangeTrace):
    """The two requests of an exchange as spans."""

    def __init__(self, prefill: LegSpan, decode: LegSpan) -> None:
        super().__init__((prefill.headers, decode.headers))
        self._prefill = prefill
        self._decode = decode

    def decode_response_started(self, status: int) -> None:
        """Decode's status and headers have arrived."""
        self._decode.response_started(status)

    def prefill_ended(self, status: int, error: BaseException | None) -> None:
        """Prefill's response is complete, or failed with `error`."""
        self._prefill.response_started(status)
        self._prefill.end(error)

    def exchange_ended(self, error: BaseException | None, *, finished: bool, prefill_failed: bool) -> None:
        """The exchange is over: legs that have not ended by themselves were aborted."""
        if isinstance(error, UpstreamFailed | UpstreamTimeout):
            (self._prefill if prefill_failed else self._decode).end(error)
        elif isinstance(error, TimeoutError):
            self._decode.end(error)
        elif finished or self._decode.refused:
            self._decode.end()
        self._decode.end(aborted=True)
        self._prefill.end(aborted=True)


def mark_failed(span: Span, error_type: str, description: str | None = None) -> None:
    """Set a span's status to error."""
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR, description))


def error_type(error: BaseException) -> str:
    """The `error.type` attribute for an error; for a `RouterError`, the same word as in metrics."""
    if isinstance(error, RouterError):
        return error.kind
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__


def _trace_headers(context: Context) -> Headers:
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier, context)
    return tuple(carrier.items())
