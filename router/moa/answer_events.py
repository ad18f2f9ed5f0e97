"""Reads the events of a streamed answer: of SGLang's `/generate`, and of OpenAI-compatible servers."""

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
        token_counts: Prompt tokens, completion tokens, cached prompt tokens.
        finish_reason: As in OpenAI's API; None while it runs.
        matched: The stop token or stop string that ended it, or the cause of an abort.
        logprobs: Log-probabilities of its tokens, if requested; from `/generate` only with the last event.
    """

    text: str
    ids: list[int]
    token_counts: tuple[int, int, int]
    finish_reason: str | None
    matched: int | str | None
    logprobs: list[float] = field(default_factory=list)

    @property
    def cut(self) -> bool:
        """Whether a stop string ended it: then `ids` may go on behind the end of `text`."""
        return isinstance(self.matched, str)

    @property
    def answer_ids(self) -> list[int]:
        """Its token ids without the stop token."""
        return self.ids[:-1] if self.ids and self.ids[-1] == self.matched else self.ids


def read_event(event: bytes, agent: str) -> AnswerProgress:
    """Read one event of `/generate`, which has the whole answer so far.

    Raises:
        UpstreamFailed: The event has an error or an unknown form; the message names the agent.
    """
    try:
        payload = orjson.loads(event)
        if "error" in payload:
            raise UpstreamFailed(f"agent {agent} failed while it answered: {error_message(event)}")
        progress = _read_generate(payload)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UpstreamFailed(f"agent {agent} failed: its answer is not in SGLang's form.") from None
    if progress.finish_reason == "abort":
        raise UpstreamFailed(f"agent {agent} failed: its worker aborted it ({progress.matched or 'no cause given'}).")
    return progress


def _read_generate(payload: dict[str, Any]) -> AnswerProgress:
    meta = payload["meta_info"]
    finish = meta.get("finish_reason") or {}
    if finish.get("type") == "abort":  # such an event has no counts
        return AnswerProgress("", [], (0, 0, 0), "abort", finish.get("message"))
    token_counts = (meta["prompt_tokens"], meta["completion_tokens"], meta.get("cached_tokens", 0))
    finish_reason = finish.get("type")
    # Each event has those of all tokens so far: only the last one is read.
    token_logprobs = meta.get("output_token_logprobs") or [] if finish_reason is not None else []
    logprobs = [math.nan if entry[0] is None else float(entry[0]) for entry in token_logprobs]
    text, ids = payload.get("text") or "", payload["output_ids"]
    return AnswerProgress(text, ids, token_counts, finish_reason, finish.get("matched"), logprobs)


def read_openai_event(event: bytes, agent: str, before: AnswerProgress | None) -> AnswerProgress:
    """Add one event of `/v1/chat/completions` or `/v1/completions` to the answer before it.

    Raises:
        UpstreamFailed: The event has an error or an unknown form; the message names the agent.
    """
    progress = before or AnswerProgress("", [], (0, 0, 0), None, None)
    try:
        payload = orjson.loads(event)
        if "error" in payload:
            raise UpstreamFailed(f"agent {agent} failed while it answered: {error_message(event)}")
        usage = payload.get("usage")
        if usage is not None:
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            progress = replace(progress, token_counts=(usage["prompt_tokens"], usage["completion_tokens"], cached))
        for choice in payload["choices"]:
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


def _openai_logprobs(logprobs: Any) -> list[float]:
    """The log-probabilities of one choice's `logprobs`, in the form of chat or of completions."""
    if not logprobs:
        return []
    if "content" in logprobs:
        values = [entry["logprob"] for entry in logprobs["content"] or []]
    else:
        values = logprobs["token_logprobs"] or []
    return [math.nan if value is None else float(value) for value in values]
