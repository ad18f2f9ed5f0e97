"""Agents of a run as spans, with the times of the run's trace."""

from typing import Any, Self

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer

from router.observability.run_trace import AgentTrace, RunTrace
from router.observability.tracing.leg_spans import ParentSpan, fail


class AgentSpan(ParentSpan):
    """The span of one agent; it begins when its prompt begins to be put together."""

    def __init__(self, tracer: Tracer, context: Context, run: RunTrace, agent: AgentTrace) -> None:
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
        began = moment(run, run.now())
        super().__init__(tracer, tracer.start_span(name, context, SpanKind.INTERNAL, attributes, start_time=began))
        self._run = run
        self._agent = agent

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Nothing more happens to the agent."""
        agent, span = self._agent, self._span
        told: dict[str, Any] = {
            "moa.state": agent.state if agent.ended else "aborted",
            "moa.attempts": agent.attempts,
            "moa.backend": agent.backend,
            "moa.confidence": agent.confidence,
            "moa.early_exit": self._exited_without() or None,
            **{f"moa.speculation.{name}": value for name, value in agent.speculation.items()},
        }
        if agent.prompt_tokens:
            told["gen_ai.usage.input_tokens"] = agent.prompt_tokens
            told["gen_ai.usage.output_tokens"] = agent.completion_tokens
            told["gen_ai.usage.cache_read.input_tokens"] = agent.cached_tokens
        if agent.finish_reason is not None:
            told["gen_ai.response.finish_reasons"] = [agent.finish_reason]
        span.set_attributes({name: value for name, value in told.items() if value is not None})
        self._events()
        if agent.state == "failed":
            fail(span, "agent_failed", agent.error)
        span.end(moment(self._run, self._run.now() if agent.end is None else agent.end))

    def _events(self) -> None:
        """The last attempt's, as its trace has them."""
        for began, ready, tokens in self._agent.segments:
            attributes = {"moa.segment.tokens": tokens, "moa.segment.seconds": ready - began}
            self._span.add_event("moa.segment", attributes, moment(self._run, ready))
        for name, at in (("moa.sent", self._agent.start), ("moa.first_token", self._agent.first_token)):
            if at is not None:
                self._span.add_event(name, timestamp=moment(self._run, at))

    def _exited_without(self) -> bool:
        """Whether its cluster did not wait for it."""
        agent = self._agent
        return agent.state in ("aborted", "skipped") and any(
            each["exit"] and each["cluster"] == agent.cluster for each in self._run.decisions
        )


def moment(run: RunTrace, seconds: float) -> int:
    """A moment of a run in ns since the epoch."""
    return int((run.created + seconds) * 1e9)
