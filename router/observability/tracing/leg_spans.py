"""Requests to workers as spans."""

from types import TracebackType

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from router.errors import RouterError, UpstreamFailed, UpstreamTimeout
from router.observability.tracing.legs import Headers, Leg, Legs, TracedPair, TracedWorker

PROPAGATOR = TraceContextTextMapPropagator()


class ParentSpan:
    """A span with its children; a `Sender`."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        # Always a context of our own: without one, every new span would look for the running one.
        self._context = set_span_in_context(span, Context())
        self._sent = 0

    def leg(self, worker: TracedWorker, path: str) -> "LegSpan":
        """A request to one worker begins."""
        self._sent += 1
        return self._leg(worker, path)

    def legs(self, pair: TracedPair, path: str) -> "LegSpans":
        """An exchange begins."""
        self._sent += 1
        return LegSpans(self._leg(pair.prefill, path), self._leg(pair.decode, path))

    @property
    def carried(self) -> Headers:
        """What a request must carry for the spans of who gets it to be this one's children."""
        return _carried(self._context)

    def quietly(self) -> "UntracedSender":
        """A sender whose requests are no spans; they carry this one."""
        return UntracedSender(self.carried)

    def _leg(self, worker: TracedWorker, path: str) -> "LegSpan":
        attributes: dict[str, str | int] = {
            "http.request.method": "POST",
            "url.full": worker.url + path,
            "server.address": worker.host,
            "server.port": worker.port,
            "moa.worker.role": worker.role,
        }
        if worker.model is not None:
            attributes["gen_ai.request.model"] = worker.model
        if self._sent > 1:
            attributes["http.request.resend_count"] = self._sent - 1
        return LegSpan(self._tracer.start_span(f"{worker.role} {path}", self._context, SpanKind.CLIENT, attributes))


class UntracedSender:
    """A `Sender` whose requests are no spans of their own."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def leg(self, worker: TracedWorker, path: str) -> Leg:
        """A request to one worker begins."""
        return Leg(self._headers)

    def legs(self, pair: TracedPair, path: str) -> Legs:
        """An exchange begins."""
        return Legs((self._headers, self._headers))

    def quietly(self) -> "UntracedSender":
        """Itself."""
        return self


class LegSpan(Leg):
    """A request to one worker as a span; it ends once, however often it is told to."""

    def __init__(self, span: Span) -> None:
        super().__init__(_carried(set_span_in_context(span, Context())))
        self._span = span
        self._status: int | None = None
        self._ended = False

    @property
    def refused(self) -> bool:
        """Whether its worker answered with an error."""
        return self._status is not None and self._status >= 400

    def answered(self, status: int) -> None:
        """The head of its answer is there."""
        if status == 0:
            return
        self._status = status
        self._span.set_attribute("http.response.status_code", status)

    def end(self, error: BaseException | None = None, *, aborted: bool = False) -> None:
        """It is over: its worker answered or failed, or the router gave it up."""
        if self._ended:
            return
        self._ended = True
        if aborted:
            self._span.set_attribute("moa.aborted", True)
        elif error is not None:
            fail(self._span, kind_of(error), str(error))
        elif self.refused:
            fail(self._span, str(self._status))
        self._span.end()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error, aborted=not isinstance(error, Exception | None))


class LegSpans(Legs):
    """The two requests of an exchange as spans."""

    def __init__(self, prefill: LegSpan, decode: LegSpan) -> None:
        super().__init__((prefill.headers, decode.headers))
        self._prefill = prefill
        self._decode = decode

    def decode_answered(self, status: int) -> None:
        """The head of decode's answer is there."""
        self._decode.answered(status)

    def prefill_ended(self, status: int, problem: BaseException | None) -> None:
        """Prefill has answered, or failed."""
        self._prefill.answered(status)
        self._prefill.end(problem)

    def ended(self, error: BaseException | None, *, finished: bool, prefill_failed: bool) -> None:
        """The exchange is over: what has not ended by itself was given up."""
        if isinstance(error, UpstreamFailed | UpstreamTimeout):
            (self._prefill if prefill_failed else self._decode).end(error)
        elif isinstance(error, TimeoutError):
            self._decode.end(error)
        elif finished or self._decode.refused:
            self._decode.end()
        self._decode.end(aborted=True)
        self._prefill.end(aborted=True)


def fail(span: Span, kind: str, words: str | None = None) -> None:
    """Mark a span as failed."""
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, words))


def kind_of(error: BaseException) -> str:
    """An error's kind, as metrics name it."""
    if isinstance(error, RouterError):
        return error.kind
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__


def _carried(context: Context) -> Headers:
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier, context)
    return tuple(carrier.items())
