"""A client's request as a span."""

from collections.abc import Callable, MutableMapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer

from router.observability.run_trace import AgentTrace, RunTrace
from router.observability.tracing.agent_spans import AgentSpan, moment
from router.observability.tracing.answer_watch import AnswerWatch
from router.observability.tracing.exporter import SpanExporter
from router.observability.tracing.leg_spans import PROPAGATOR, ParentSpan, fail

OF_DECISION = ("cluster", "rule", "exit", "by", "answers", "remaining", "C", "P", "B", "Q", "u", "problem", "seconds")
OPERATIONS = {"chat": "chat", "completions": "text_completion", "generate": "text_completion"}


class TracedRequest(Protocol):
    """What a span tells of a client's request."""

    id: str
    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    status: int
    model: str | None
    attempts: int

    def header(self, name: bytes) -> str | None:
        """A header's value by lower-case name."""

    def watch_response(self, seen: Callable[[MutableMapping[str, Any]], None]) -> None:
        """Let `seen` see each message of the answer before it goes out."""


class Tracing:
    """All spans of one router.

    Args:
        endpoint: The collector's host and port.
    """

    def __init__(self, endpoint: str) -> None:
        self._export = SpanExporter(endpoint)

    def begin(self, request: TracedRequest, route: str, endpoint: str) -> "RequestSpan":
        """The span of a client's request that has come.

        Args:
            request: The request.
            route: The path as it was routed, with variables in braces.
            endpoint: Its name in metrics.
        """
        span = RequestSpan(self._export.tracer, request, route, endpoint)
        request.watch_response(span.answer)
        return span

    async def stop(self) -> None:
        """Send what is left, within a bounded time."""
        await self._export.stop()


class RequestSpan(ParentSpan):
    """The span of one request.

    Attributes:
        answer: What is seen of its answer.
    """

    def __init__(self, tracer: Tracer, request: TracedRequest, route: str, endpoint: str) -> None:
        attributes: dict[str, str | int | list[str]] = {
            "http.request.method": request.method,
            "http.route": route,
            "url.path": request.path,
            "url.scheme": "http",
            "http.response.header.x-request-id": [request.id],
            **_server(request.header(b"host")),
        }
        if (agent := request.header(b"user-agent")) is not None:
            attributes["user_agent.original"] = agent
        if (operation := OPERATIONS.get(endpoint)) is not None:
            attributes["gen_ai.operation.name"] = operation
        name = f"{request.method} {route}"
        super().__init__(tracer, tracer.start_span(name, _continued(request), SpanKind.SERVER, attributes))
        self.answer = AnswerWatch()
        self._tokens: tuple[int, int] | None = None
        self._finish_reasons: list[str] = []

    def run(self, trace: RunTrace) -> "RunSpans":
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

    def end(self, request: TracedRequest, error_code: str) -> None:
        """The request is over.

        Args:
            request: The request.
            error_code: The kind of the error that it was answered with; empty when it was not.
        """
        span, answer = self._span, self.answer
        span.set_attribute("http.response.status_code", request.status)
        if request.model is not None:
            span.set_attribute("gen_ai.request.model", request.model)
        if request.attempts:
            span.set_attribute("moa.attempts", request.attempts)
        if answer.streamed:
            span.set_attribute("gen_ai.request.stream", True)
            if answer.first is not None:
                span.add_event("moa.first_token", timestamp=answer.first)
        self._end_of_answer(request, error_code)
        span.end()

    def _end_of_answer(self, request: TracedRequest, error_code: str) -> None:
        told = self.answer.told()
        if request.status < 400:
            tokens = self._tokens or told.tokens
            if tokens is not None:
                self._span.set_attribute("gen_ai.usage.input_tokens", tokens[0])
                self._span.set_attribute("gen_ai.usage.output_tokens", tokens[1])
            if reasons := self._finish_reasons or told.finish_reasons:
                self._span.set_attribute("gen_ai.response.finish_reasons", reasons)
        if not self.answer.whole:
            fail(self._span, error_code or "client_gone", None if error_code else "the client left.")
        elif request.status >= 500:
            fail(self._span, error_code or str(request.status))
        elif self.answer.streamed and told.error is not None:
            fail(self._span, told.error, "the stream ended with an error.")


class RunSpans:
    """The agents of one run of a tree."""

    def __init__(self, request: RequestSpan, trace: RunTrace) -> None:
        self._request = request
        self._trace = trace
        self._agents: dict[str, AgentSpan] = {}

    def agent(self, agent: AgentTrace) -> AgentSpan:
        """The span of an agent, which begins now if there is none yet."""
        if agent.agent not in self._agents:
            self._agents[agent.agent] = self._request.agent(self._trace, agent)
        return self._agents[agent.agent]

    def end(self, finals: list[str]) -> None:
        """The run is over.

        Args:
            finals: The agents whose answers are the client's.
        """
        trace = self._trace
        for agent in trace.agents:
            self.agent(agent).end()
        for decision in trace.decisions:
            told = {name: value for name in OF_DECISION if (value := decision.get(name)) is not None}
            attributes = {"moa.run": trace.id, **{f"moa.{name}": value for name, value in told.items()}}
            self._request.event("moa.decision", attributes, moment(trace, decision["at"]))
        usage = trace.usage()
        reasons = [each.finish_reason for each in trace.agents if each.agent in finals and each.finish_reason]
        self._request.used(usage["prompt_tokens"], usage["completion_tokens"], reasons)


def _continued(request: TracedRequest) -> Context:
    """The client's own trace, where it sent one."""
    carrier = {
        name: [value.decode("latin-1") for key, value in request.headers if key == name.encode()]
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
