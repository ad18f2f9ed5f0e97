"""One agent's call: asked, followed, and asked again when its server fails."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from router.early_exit import confidence
from router.errors import AgentRefused, NoWorker, RouterError, UpstreamFailed, UpstreamTimeout
from router.moa.answer_events import AnswerProgress
from router.moa.prompt_draft import PromptDraft
from router.observability.run_trace import AgentTrace, RunTrace
from router.observability.tracing.leg_tracer import LegTracer
from router.speculative_prefill.composition import AnswerOrder
from router.speculative_prefill.upstream_answer import UpstreamAnswer

RETRIED_ERRORS = (UpstreamFailed, UpstreamTimeout, AgentRefused, NoWorker)


@dataclass(frozen=True)
class AgentCall:
    """What an agent is asked, and where its answer goes.

    Attributes:
        run: The run's trace, for its clock.
        trace: The agent's own.
        answer: What others read.
        draft: The prompt.
        upstream: The answers that the draft names.
        order: In which they stand in the prompt.
        sampling: Sampling parameters by SGLang's names.
        splice: Whether the prompt is prefilled while the answers it reads still come.
        logprobs: Whether log-probabilities are asked for, for the answer's confidence.
        ids: Whether the answer's token ids are kept in the trace.
        retries: How often it may be asked again.
        heard: Whether a client gets the pieces as they come: then what was said cannot be said anew.
        timeout: Seconds for which its server may say nothing.
        extra: More fields for `/generate`.
        listen: Gets each event of its server as it came.
        tracer: Traces its requests to workers; None without tracing.
    """

    run: RunTrace
    trace: AgentTrace
    answer: UpstreamAnswer
    draft: PromptDraft
    upstream: Mapping[str, UpstreamAnswer]
    order: AnswerOrder
    sampling: dict[str, Any]
    splice: bool = False
    logprobs: bool = False
    ids: bool = False
    retries: int = 1
    heard: bool = False
    timeout: float = 300.0
    extra: Mapping[str, Any] = field(default_factory=dict)
    listen: Callable[[bytes], None] = lambda _: None
    tracer: LegTracer | None = None

    def begin(self, backend: str) -> None:
        """Another attempt."""
        self.trace.attempts += 1
        self.trace.backend = backend
        self.trace.state = "waiting"
        self.trace.began, self.trace.start, self.trace.first_token = self.run.now(), None, None
        self.trace.segments = []

    def sent(self) -> None:
        """Its prompt is whole, its request goes out."""
        self.trace.start, self.trace.state = self.run.now(), "running"

    def learn(self, before: AnswerProgress | None, now: AnswerProgress) -> str:
        """Take what its server says; return the new text."""
        trace = self.trace
        trace.finish_reason = now.finish_reason
        trace.prompt_tokens, trace.completion_tokens, trace.cached_tokens = now.counts
        if trace.first_token is None and (now.ids or now.text):
            trace.first_token = self.run.now()
        trace.text = now.text
        if self.ids:
            trace.output_ids = now.ids
        self.answer.update(now.answer_ids, now.text)
        return now.text[len(before.text) if before else 0 :]

    def finish(self, progress: AnswerProgress | None) -> None:
        """Its stream is over; raises `UpstreamFailed` when its answer is not whole."""
        if progress is None or progress.finish_reason is None:
            raise UpstreamFailed(f"agent {self.trace.agent} failed: its answer ended without a finish reason.")
        self.trace.confidence = _confidence(progress.logprobs) if self.logprobs else None
        self.trace.state, self.trace.end = "done", self.run.now()
        self.answer.finish(cut=progress.cut)

    def again(self, error: RouterError, *, said: bool) -> bool:
        """Whether it is worth asking again."""
        return (
            isinstance(error, RETRIED_ERRORS)
            and self.trace.attempts <= self.retries
            and not (said and self.heard)
            and not any(answer.error is error for answer in self.upstream.values())
        )


def _confidence(logprobs: list[float]) -> float | None:
    try:
        return confidence(logprobs)
    except ValueError:
        return None
