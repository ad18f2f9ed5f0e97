"""One agent's call: what is sent, and what its trace and its readers learn of the answer."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from router.early_exit import confidence
from router.errors import AgentRefused, NoWorker, RouterError, UpstreamFailed, UpstreamTimeout
from router.moa.answer_progress import AnswerProgress
from router.moa.prompt_draft import PromptDraft
from router.moa.reasoning import ReasoningSplitter
from router.observability.run_trace import AgentTrace, RunTrace
from router.observability.tracing.leg_tracer import LegTracer
from router.speculative_prefill.composition import AnswerOrder
from router.speculative_prefill.upstream_answer import UpstreamAnswer
from router.workers.worker import Worker

RETRYABLE_ERRORS = (UpstreamFailed, UpstreamTimeout, AgentRefused, NoWorker)


async def _no_wait() -> None:
    """Return at once: the default of `before_sending`."""


@dataclass(frozen=True)
class AgentCall:
    """One agent's call, over all its attempts.

    Attributes:
        run_trace: The run's trace, for its clock.
        trace: The agent's own trace.
        answer: The answer that readers follow.
        draft: The prompt, with placeholders for upstream answers.
        upstream: Upstream answers by agent name, at least those that the draft names.
        order: Order of the upstream answers in the prompt.
        sampling: Sampling parameters by SGLang's names.
        splice: Whether the prompt is prefilled while upstream answers are still being written.
        return_logprobs: Whether log-probabilities are requested, for the answer's confidence.
        keep_output_ids: Whether the trace keeps the answer's token ids.
        answers_client: Whether the client gets the text, with the reasoning that its model wrote into it.
        retries: Retries after the first attempt.
        streaming: Whether a client gets the text as it comes: then an answer cannot begin anew.
        timeout: Seconds without any event after which the server counts as failed.
        extra_fields: More fields of the `/generate` body.
        on_event: Called with each event of the server, as it came.
        before_sending: Awaited when the prompt is complete, before the request goes out.
        failed_workers: Servers that failed an attempt of this call; the next one avoids them.
        splitters: The one that takes the reasoning out of this attempt's answer.
        tracer: The span in whose name requests are sent; None without tracing.
    """

    run_trace: RunTrace
    trace: AgentTrace
    answer: UpstreamAnswer
    draft: PromptDraft
    upstream: Mapping[str, UpstreamAnswer]
    order: AnswerOrder
    sampling: dict[str, Any]
    splice: bool = False
    return_logprobs: bool = False
    keep_output_ids: bool = False
    answers_client: bool = False
    retries: int = 1
    streaming: bool = False
    timeout: float = 300.0
    extra_fields: Mapping[str, Any] = field(default_factory=dict)
    on_event: Callable[[bytes], None] = lambda _: None
    before_sending: Callable[[], Awaitable[None]] = _no_wait
    failed_workers: set[Worker] = field(default_factory=set)
    splitters: list[ReasoningSplitter] = field(default_factory=lambda: [ReasoningSplitter()])
    tracer: LegTracer | None = None

    def begin_attempt(self, backend: str) -> None:
        """Reset the trace for another attempt."""
        self.trace.attempts += 1
        self.trace.backend = backend
        self.trace.state = "waiting"
        self.trace.began, self.trace.start, self.trace.first_token = self.run_trace.now(), None, None
        self.trace.segments = []

    def mark_sent(self) -> None:
        """Note that the prompt is complete and the request goes out."""
        self.trace.start, self.trace.state = self.run_trace.now(), "running"

    def update(self, before: AnswerProgress | None, now: AnswerProgress) -> str:
        """Copy one event's progress to the trace and to readers; return the text that is new since `before`."""
        trace = self.trace
        trace.finish_reason = now.finish_reason
        trace.prompt_tokens, trace.completion_tokens, trace.cached_tokens = now.token_counts
        if trace.first_token is None and (now.ids or now.text or now.reasoning):
            trace.first_token = self.run_trace.now()
        if before is None:
            self.splitters[:] = [ReasoningSplitter()]
        text, thoughts = self.splitters[0].split(now.text)
        trace.reasoning = now.reasoning or thoughts
        trace.text = now.text if self.answers_client else text
        if self.keep_output_ids:
            trace.output_ids = now.ids
        # Where the reasoning ends among the token ids is not known: readers take the text then.
        self.answer.text_only = text != now.text
        self.answer.update(now.answer_ids, text)
        return now.text[len(before.text) if before else 0 :]

    def finish(self, progress: AnswerProgress | None) -> None:
        """Close the answer at the end of the stream; raises `UpstreamFailed` without a finish reason."""
        if progress is None or progress.finish_reason is None:
            raise UpstreamFailed(f"agent {self.trace.agent} failed: its answer ended without a finish reason.")
        self.trace.confidence = _confidence(progress.logprobs) if self.return_logprobs else None
        self.trace.state, self.trace.end = "done", self.run_trace.now()
        self.answer.finish(cut=progress.cut)

    def should_retry(self, error: RouterError, *, text_sent: bool) -> bool:
        """Whether another attempt may help and is allowed; an upstream's error is not this agent's to retry."""
        return (
            isinstance(error, RETRYABLE_ERRORS)
            and self.trace.attempts <= self.retries
            and not (text_sent and self.streaming)
            and not any(answer.error is error for answer in self.upstream.values())
        )


def _confidence(logprobs: list[float]) -> float | None:
    try:
        return confidence(logprobs)
    except ValueError:
        return None
