"""What one event of a streamed answer says: of `/generate`, or of an OpenAI-compatible server."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from router.dispatch.worker_errors import error_message
from router.errors import UpstreamFailed


@dataclass(frozen=True)
class AnswerProgress:
    """An answer so far.

    Attributes:
        text: All text so far; empty without a tokenizer.
        ids: All token ids so far, a stop token included.
        counts: Prompt tokens, completion tokens, cached prompt tokens.
        finish_reason: OpenAI's word for how it ended; None while it runs.
        matched: The stop token or stop string that ended it, or the cause of an abort.
        logprobs: Log-probabilities of its tokens, where they were asked for: of `/generate` only with the last event.
    """

    text: str
    ids: list[int]
    counts: tuple[int, int, int]
    finish_reason: str | None
    matched: int | str | None
    logprobs: list[float] = field(default_factory=list)

    @property
    def cut(self) -> bool:
        """Whether a stop string ended it, behind which its ids may go on."""
        return isinstance(self.matched, str)

    @property
    def answer_ids(self) -> list[int]:
        """Its token ids without the stop token."""
        return self.ids[:-1] if self.ids and self.ids[-1] == self.matched else self.ids


def read_event(event: bytes, agent: str) -> AnswerProgress:
    """Read one event; raises `UpstreamFailed`, which names the agent, when it tells an error or is odd."""
    try:
        told = orjson.loads(event)
        if "error" in told:
            raise UpstreamFailed(f"agent {agent} failed while it answered: {error_message(event)}")
        progress = _read(told)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UpstreamFailed(f"agent {agent} failed: its answer is not in SGLang's form.") from None
    if progress.finish_reason == "abort":
        raise UpstreamFailed(f"agent {agent} failed: its worker aborted it ({progress.matched or 'no cause given'}).")
    return progress


def _read(told: dict[str, Any]) -> AnswerProgress:
    meta = told["meta_info"]
    ended = meta.get("finish_reason") or {}
    if ended.get("type") == "abort":  # such an event has no counts
        return AnswerProgress("", [], (0, 0, 0), "abort", ended.get("message"))
    counts = (meta["prompt_tokens"], meta["completion_tokens"], meta.get("cached_tokens", 0))
    finish = ended.get("type")
    # Each event brings those of all tokens: to read them once is enough.
    drawn = meta.get("output_token_logprobs") or [] if finish is not None else []
    logprobs = [math.nan if each[0] is None else float(each[0]) for each in drawn]
    return AnswerProgress(told.get("text") or "", told["output_ids"], counts, finish, ended.get("matched"), logprobs)


def read_openai_event(event: bytes, agent: str, before: AnswerProgress | None) -> AnswerProgress:
    """Add one event of `/v1/chat/completions` or `/v1/completions` to what came before; raises as `read_event`."""
    progress = before or AnswerProgress("", [], (0, 0, 0), None, None)
    try:
        told = orjson.loads(event)
        if "error" in told:
            raise UpstreamFailed(f"agent {agent} failed while it answered: {error_message(event)}")
        usage = told.get("usage")
        if usage is not None:
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            progress = replace(progress, counts=(usage["prompt_tokens"], usage["completion_tokens"], cached))
        for choice in told["choices"]:
            delta = choice.get("delta")
            text = (delta.get("content") if delta is not None else choice.get("text")) or ""
            progress = replace(
                progress,
                text=progress.text + text,
                logprobs=progress.logprobs + _openai_logprobs(choice.get("logprobs")),
                finish_reason=choice.get("finish_reason") or progress.finish_reason,
            )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UpstreamFailed(f"agent {agent} failed: its answer is not in OpenAI's form.") from None
    if progress.finish_reason == "abort":
        raise UpstreamFailed(f"agent {agent} failed: its worker aborted it.")
    return progress


def _openai_logprobs(told: Any) -> list[float]:
    """Of one choice, in the form of chat or of completions."""
    if not told:
        return []
    drawn = [each["logprob"] for each in told["content"] or []] if "content" in told else told["token_logprobs"] or []
    return [math.nan if each is None else float(each) for each in drawn]
