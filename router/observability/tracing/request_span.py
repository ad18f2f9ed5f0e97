"""A client's request as a span, with the agents of its run as children."""

from collections.abc import Callable, MutableMapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer

from router.observability.run_trace import AgentTrace, RunTrace
from router.observability.tracing.agent_spans import AgentSpan, to_epoch_ns
from router.observability.tracing.exporter import SpanExporter
from router.observability.tracing.leg_spans import PROPAGATOR, ParentSpan, mark_failed
from router.observability.tracing.response_observer import ResponseObserver

DECISION_FIELDS = (
    "cluster", "rule", "exit", "by", "answers", "remaining", "C", "P", "B", "Q", "u", "problem", "seconds"
)  # fmt: skip
OPERATION_NAMES = {"chat": "chat", "completions": "text_completion", "generate": "text_completion"}


class TracedRequest(Protocol):
    """The attributes of a client's request that its span has."""

    id: str
    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    status: int
    model: str | None
    attempts: int

    @property
    def scheme(self) -> str:
        """`http` or `https`."""

    def header(self, name: bytes) -> str | None:
        """A header's value by lower-case name."""

    def observe_response(self, observer: Callable[[MutableMapping[str, Any]], None]) -> None:
        """Call `observer` with each ASGI message of the response before it is sent."""


class Tracing:
    """Creates the spans of one router and exports them.

    Args:
        endpoint: The collector's host and port.
        redact_text: Whether spans leave out what may quote prompts and answers.
    """

    def __init__(self, endpoint: str, *, redact_text: bool = False) -> None:
        self._redact_text = redact_text
        self._exporter = SpanExporter(endpoint)

    def start_request(self, request: TracedRequest, route: str, endpoint: str) -> "RequestSpan":
        """Start the span of a client's request.

        Args:
            request: The request.
            route: The path of its route, with variables in braces.
            endpoint: The endpoint's name in metrics.
        """
        span = RequestSpan(self._exporter.tracer, request, route, endpoint, redact_text=self._redact_text)
        request.observe_response(span.response)
        return span

    async def stop(self) -> None:
        """Send the last spans, within a timeout."""
        await self._exporter.stop()


class RequestSpan(ParentSpan):
    """The span of one request.

    Attributes:
        response: Observes the response to the client.
    """

    def __init__(
        self, tracer: Tracer, request: TracedRequest, route: str, endpoint: str, *, redact_text: bool = False
    ) -> None:
        attributes: dict[str, str | int | list[str]] = {
            "http.request.method": request.method,
            "http.route": route,
            "url.path": request.path,
            "url.scheme": request.scheme,
            "http.response.header.x-request-id": [request.id],
            **_server_attributes(request.header(b"host")),
        }
        if (user_agent := request.header(b"user-agent")) is not None:
            attributes["user_agent.original"] = user_agent
        if (operation := OPERATION_NAMES.get(endpoint)) is not None:
            attributes["gen_ai.operation.name"] = operation
        name = f"{request.method} {route}"
        span = tracer.start_span(name, _client_context(request), SpanKind.SERVER, attributes)
        super().__init__(tracer, span, redact_text=redact_text)
        self.response = ResponseObserver()
        self._tokens: tuple[int, int] | None = None
        self._finish_reasons: list[str] = []

    def start_run(self, trace: RunTrace) -> "RunSpans":
        """The spans of a run's agents, as children."""
        self._span.set_attributes({"moa.tree": trace.tree, "moa.arm": trace.arm})
        return RunSpans(self, trace)

    def start_agent(self, run: RunTrace, agent: AgentTrace) -> AgentSpan:
        """Start the span of an agent, as a child."""
        return AgentSpan(self._tracer, self._context, run, agent, redact_text=self._redact_text)

    def decision_fields(self) -> tuple[str, ...]:
        """The fields of a decision that spans have."""
        return tuple(name for name in DECISION_FIELDS if name != "problem" or not self._redact_text)

    def add_event(self, name: str, attributes: dict[str, str | int | float | list[str]], time_ns: int) -> None:
        """Add an event; `time_ns` is in ns since the epoch."""
        self._span.add_event(name, attributes, time_ns)

    def add_usage(self, prompt_tokens: int, completion_tokens: int, finish_reasons: list[str]) -> None:
        """Add the tokens of a run, which the response itself may not tell."""
        so_far = self._tokens or (0, 0)
        self._tokens = so_far[0] + prompt_tokens, so_far[1] + completion_tokens
        self._finish_reasons += finish_reasons

    def end(self, request: TracedRequest, error_code: str) -> None:
        """End the span.

        Args:
            request: The request.
            error_code: The kind of the error that the client got; empty for a success.
        """
        span, response = self._span, self.response
        span.set_attribute("http.response.status_code", request.status)
        if request.model is not None:
            span.set_attribute("gen_ai.request.model", request.model)
        if request.attempts:
            span.set_attribute("moa.attempts", request.attempts)
        if response.streamed:
            span.set_attribute("gen_ai.request.stream", True)
            if response.first_chunk_ns is not None:
                span.add_event("moa.first_token", timestamp=response.first_chunk_ns)
        self._describe_response(request, error_code)
        span.end()

    def _describe_response(self, request: TracedRequest, error_code: str) -> None:
        summary = self.response.summary()
        if request.status < 400:
            tokens = self._tokens or summary.tokens
            if tokens is not None:
                self._span.set_attribute("gen_ai.usage.input_tokens", tokens[0])
                self._span.set_attribute("gen_ai.usage.output_tokens", tokens[1])
            if reasons := self._finish_reasons or summary.finish_reasons:
                self._span.set_attribute("gen_ai.response.finish_reasons", reasons)
        if not self.response.complete:
            mark_failed(self._span, error_code or "client_gone", None if error_code else "the client left.")
        elif request.status >= 500:
            mark_failed(self._span, error_code or str(request.status))
        elif self.response.streamed and summary.error is not None:
            mark_failed(self._span, summary.error, "the stream ended with an error.")


class RunSpans:
    """The spans of the agents of one run."""

    def __init__(self, request: RequestSpan, trace: RunTrace) -> None:
        self._request = request
        self._trace = trace
        self._agents: dict[str, AgentSpan] = {}

    def agent(self, agent: AgentTrace) -> AgentSpan:
        """The span of an agent; starts it if it was not started yet."""
        if agent.agent not in self._agents:
            self._agents[agent.agent] = self._request.start_agent(self._trace, agent)
        return self._agents[agent.agent]

    def end(self, finals: list[str]) -> None:
        """End all spans, and add the run's decisions and usage to the request's span.

        Args:
            finals: The agents whose answers the client gets.
        """
        trace = self._trace
        for agent in trace.agents:
            self.agent(agent).end()
        for decision in trace.decisions:
            values = {
                name: value for name in self._request.decision_fields() if (value := decision.get(name)) is not None
            }
            attributes = {"moa.run": trace.id, **{f"moa.{name}": value for name, value in values.items()}}
            self._request.add_event("moa.decision", attributes, to_epoch_ns(trace, decision["at"]))
        usage = trace.usage()
        reasons = [agent.finish_reason for agent in trace.agents if agent.agent in finals and agent.finish_reason]
        self._request.add_usage(usage["prompt_tokens"], usage["completion_tokens"], reasons)


def _client_context(request: TracedRequest) -> Context:
    """The context of the client's own trace, where it sent a `traceparent`."""
    carrier = {
        name: [value.decode("latin-1") for key, value in request.headers if key == name.encode()]
        for name in ("traceparent", "tracestate")
    }
    return PROPAGATOR.extract(carrier, Context())


def _server_attributes(host: str | None) -> dict[str, str | int]:
    """The server's address as the `host` header names it."""
    try:
        parts = urlsplit(f"//{host or ''}")
        attributes = {"server.address": parts.hostname, "server.port": parts.port}
    except ValueError:  # an invalid header
        return {}
    return {name: value for name, value in attributes.items() if value is not None}
