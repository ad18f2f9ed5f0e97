"""A client's request as a span."""

from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer

from router.call import Call
from router.moa.trace import AgentTrace, RunTrace
from router.routes import Route
from router.tracing.agents import AgentSpan, RunSpans
from router.tracing.answer import Watch
from router.tracing.export import Export
from router.tracing.leg_spans import PROPAGATOR, Parent, fail

OPERATIONS = {"chat": "chat", "completions": "text_completion", "generate": "text_completion"}


class Tracing:
    """All spans of one router.

    Args:
        endpoint: The collector's host and port.
    """

    def __init__(self, endpoint: str) -> None:
        self._export = Export(endpoint)

    def begin(self, call: Call, route: Route) -> None:
        """A client's request has come; its span becomes the call's."""
        call.span = span = RequestSpan(self._export.tracer, call, route)
        call.watch(span.answer)

    async def stop(self) -> None:
        """Send what is left, within a bounded time."""
        await self._export.stop()


class RequestSpan(Parent):
    """The span of one request.

    Attributes:
        answer: What is seen of its answer.
    """

    def __init__(self, tracer: Tracer, call: Call, route: Route) -> None:
        attributes: dict[str, str | int | list[str]] = {
            "http.request.method": call.method,
            "http.route": route.path,
            "url.path": call.path,
            "url.scheme": "http",
            "http.response.header.x-request-id": [call.id],
            **_server(call.header(b"host")),
        }
        if (agent := call.header(b"user-agent")) is not None:
            attributes["user_agent.original"] = agent
        if (operation := OPERATIONS.get(route.endpoint)) is not None:
            attributes["gen_ai.operation.name"] = operation
        name = f"{call.method} {route.path}"
        super().__init__(tracer, tracer.start_span(name, _continued(call), SpanKind.SERVER, attributes))
        self.answer = Watch()
        self._tokens: tuple[int, int] | None = None
        self._finish_reasons: list[str] = []

    def run(self, trace: RunTrace) -> RunSpans:
        """The agents of a tree's run, as children."""
        self._span.set_attributes({"moa.tree": trace.tree, "moa.arm": trace.arm})
        return RunSpans(self, trace)

    def agent(self, run: RunTrace, agent: AgentTrace) -> AgentSpan:
        """An agent, as a child."""
        return AgentSpan(self._tracer, self._context, run, agent)

    def event(self, name: str, attributes: dict[str, str | int | float | list[str]], at: int) -> None:
        """Something happened, at a moment in ns since the epoch."""
        self._span.add_event(name, attributes, at)

    def used(self, prompt: int, completion: int, finish_reasons: list[str]) -> None:
        """Tokens of a run; the answer may not tell them."""
        before = self._tokens or (0, 0)
        self._tokens = before[0] + prompt, before[1] + completion
        self._finish_reasons += finish_reasons

    def end(self, call: Call, error_code: str) -> None:
        """The request is over.

        Args:
            call: The request.
            error_code: The kind of the error that it was answered with; empty when it was not.
        """
        span, answer = self._span, self.answer
        span.set_attribute("http.response.status_code", call.status)
        if call.model is not None:
            span.set_attribute("gen_ai.request.model", call.model)
        if call.attempts:
            span.set_attribute("moa.attempts", call.attempts)
        if answer.streamed:
            span.set_attribute("gen_ai.request.stream", True)
            if answer.first is not None:
                span.add_event("moa.first_token", timestamp=answer.first)
        self._end_of_answer(call, error_code)
        span.end()

    def _end_of_answer(self, call: Call, error_code: str) -> None:
        told = self.answer.told()
        if call.status < 400:
            tokens = self._tokens or told.tokens
            if tokens is not None:
                self._span.set_attribute("gen_ai.usage.input_tokens", tokens[0])
                self._span.set_attribute("gen_ai.usage.output_tokens", tokens[1])
            if reasons := self._finish_reasons or told.finish_reasons:
                self._span.set_attribute("gen_ai.response.finish_reasons", reasons)
        if not self.answer.whole:
            fail(self._span, error_code or "client_gone", None if error_code else "the client left.")
        elif call.status >= 500:
            fail(self._span, error_code or str(call.status))
        elif self.answer.streamed and told.error is not None:
            fail(self._span, told.error, "the stream ended with an error.")


def _continued(call: Call) -> Context:
    """The client's own trace, where it sent one."""
    carrier = {
        name: [value.decode("latin-1") for key, value in call.headers if key == name.encode()]
        for name in ("traceparent", "tracestate")
    }
    return PROPAGATOR.extract(carrier, Context())


def _server(host: str | None) -> dict[str, str | int]:
    """Where the client thinks that it is."""
    try:
        parts = urlsplit(f"//{host or ''}")
        told = {"server.address": parts.hostname, "server.port": parts.port}
    except ValueError:  # a header that a client made up
        return {}
    return {name: value for name, value in told.items() if value is not None}
