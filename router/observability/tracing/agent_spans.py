"""The agents of a run as spans, with the times of the run's trace."""

from typing import Any, Self

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer

from router.observability.run_trace import AgentTrace, RunTrace
from router.observability.tracing.leg_spans import ParentSpan, mark_failed


class AgentSpan(ParentSpan):
    """The span of one agent; it starts when the agent's prompt is started."""

    def __init__(
        self, tracer: Tracer, context: Context, run: RunTrace, agent: AgentTrace, *, redact_text: bool = False
    ) -> None:
        attributes: dict[str, str | int | list[str]] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": agent.agent,
            "gen_ai.request.model": agent.model,
            "moa.run": run.id,
            "moa.cluster": agent.cluster,
            "moa.layer": agent.layer,
            "moa.reads": list(agent.reads),
        }
        name = f"invoke_agent {agent.agent}"
        started_ns = to_epoch_ns(run, run.now())
        span = tracer.start_span(name, context, SpanKind.INTERNAL, attributes, start_time=started_ns)
        super().__init__(tracer, span, redact_text=redact_text)
        self._run = run
        self._agent = agent

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the span with what the agent's trace says."""
        agent, span = self._agent, self._span
        attributes: dict[str, Any] = {
            "moa.state": agent.state if agent.ended else "aborted",
            "moa.attempts": agent.attempts,
            "moa.backend": agent.backend,
            "moa.confidence": agent.confidence,
            "moa.early_exit": self._cut_by_early_exit() or None,
            **{f"moa.speculation.{name}": value for name, value in agent.speculation.items()},
        }
        if agent.prompt_tokens:
            attributes["gen_ai.usage.input_tokens"] = agent.prompt_tokens
            attributes["gen_ai.usage.output_tokens"] = agent.completion_tokens
            attributes["gen_ai.usage.cache_read.input_tokens"] = agent.cached_tokens
        if agent.finish_reason is not None:
            attributes["gen_ai.response.finish_reasons"] = [agent.finish_reason]
        span.set_attributes({name: value for name, value in attributes.items() if value is not None})
        self._add_events()
        if agent.state == "failed":
            mark_failed(span, "agent_failed", None if self._redact_text else agent.error)
        span.end(to_epoch_ns(self._run, self._run.now() if agent.end is None else agent.end))

    def _add_events(self) -> None:
        """Add the events of the last attempt: segments, the request, the first token."""
        for start, end, tokens in self._agent.segments:
            attributes = {"moa.segment.tokens": tokens, "moa.segment.seconds": end - start}
            self._span.add_event("moa.segment", attributes, to_epoch_ns(self._run, end))
        for name, at in (("moa.sent", self._agent.start), ("moa.first_token", self._agent.first_token)):
            if at is not None:
                self._span.add_event(name, timestamp=to_epoch_ns(self._run, at))

    def _cut_by_early_exit(self) -> bool:
        """Whether its cluster exited before it was done."""
        agent = self._agent
        return agent.state in ("aborted", "skipped") and any(
            decision["exit"] and decision["cluster"] == agent.cluster for decision in self._run.decisions
        )


def to_epoch_ns(run: RunTrace, seconds: float) -> int:
    """A time in seconds since the start of the run as ns since the epoch."""
    return int((run.created + seconds) * 1e9)
