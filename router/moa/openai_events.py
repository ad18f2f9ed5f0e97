"""Reads a streamed answer of an OpenAI-compatible server, or one that came whole."""

import math
from typing import Any

import orjson

from router.dispatch.worker_errors import error_message
from router.errors import UpstreamFailed
from router.moa.answer_progress import AnswerProgress

FAILED_REASONS = ("abort", "error")  # finish reasons of servers that gave the request up
REASONING_FIELDS = ("reasoning_content", "reasoning")
REASONING_PARTS = ("thinking", "reasoning")
OTHER_ANSWERS = {"tool_calls": "tool calls", "function_call": "a function call", "refusal": "a refusal"}


class OpenAIReader:
    """Reads the events of one `/v1/chat/completions` or `/v1/completions` stream; of several choices only the first.

    Servers differ: counts, choices and deltas may be missing or null, and a text may be a list of parts.

    Args:
        agent: The agent's name, for errors.
    """

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._text = ""
        self._reasoning = ""
        self._logprobs: list[float] = []
        self._token_counts = (0, 0, 0)
        self._finish_reason: str | None = None
        self._other_answers: set[str] = set()  # what it said instead of a text

    def read(self, event: bytes) -> AnswerProgress:
        """The answer with this event, or with a whole response.

        Raises:
            UpstreamFailed: The event has an error or an unknown form; the message names the agent.
        """
        try:
            payload = orjson.loads(event)
            if payload is not None:
                if payload.get("error") or payload.get("object") == "error":
                    raise self._failure(f"failed while it answered: {error_message(event)}")
                self._add_usage(payload.get("usage"))
                for choice in payload.get("choices") or ():
                    if choice and not choice.get("index"):
                        self._add_choice(choice)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self._failure("failed: its answer is not in OpenAI's form.") from None
        if self._finish_reason in FAILED_REASONS:
            raise self._failure("failed: its worker aborted it.")
        return self._progress()

    def end(self, *, complete: bool) -> AnswerProgress:
        """The whole answer.

        Args:
            complete: Whether the server said that it sent all of it. Then a missing finish reason is `stop`.

        Raises:
            UpstreamFailed: The answer was cut off, or has no text for its readers; the message says what it has.
        """
        if self._finish_reason is None:
            if not complete:
                raise self._failure("failed: its answer ended without a finish reason.")
            self._finish_reason = "stop"
        if not self._text.strip():
            found = [OTHER_ANSWERS[key] for key in OTHER_ANSWERS if key in self._other_answers]
            found = found or (["reasoning"] if self._reasoning else [])
            what = f"has {' and '.join(found)} only, and no text" if found else "is empty"
            raise self._failure(f"failed: its answer {what} (finish reason {self._finish_reason}).")
        return self._progress()

    def _failure(self, what: str) -> UpstreamFailed:
        return UpstreamFailed(f"agent {self._agent} {what}")

    def _progress(self) -> AnswerProgress:
        return AnswerProgress(
            self._text,
            token_counts=self._token_counts,
            finish_reason=self._finish_reason,
            logprobs=self._logprobs,
            reasoning=self._reasoning,
        )

    def _add_usage(self, usage: Any) -> None:
        if not usage:
            return
        details = usage.get("prompt_tokens_details") or {}
        found = usage.get("prompt_tokens"), usage.get("completion_tokens"), details.get("cached_tokens")
        prompt, completion, cached = (
            count if type(count) is int else before for count, before in zip(found, self._token_counts, strict=True)
        )
        self._token_counts = prompt, completion, cached

    def _add_choice(self, choice: dict[str, Any]) -> None:
        message = choice.get("delta") or choice.get("message") or {}
        text, thoughts = _text_and_thoughts(message.get("content") or choice.get("text"))
        self._text += text
        self._reasoning += thoughts or _reasoning(message)
        self._other_answers |= {key for key in OTHER_ANSWERS if message.get(key)}
        self._logprobs += _logprobs(choice.get("logprobs"))
        if reason := choice.get("finish_reason"):
            self._finish_reason = str(reason)


def _text_and_thoughts(content: Any) -> tuple[str, str]:
    """The text of a message's content, and what it holds of the model's reasoning; raises `TypeError` for odd ones."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if not isinstance(content, list):
        raise TypeError("a content is text or a list of parts")
    text, thoughts = "", ""
    for part in content:
        if isinstance(part, str):
            text += part
        elif (kind := part.get("type")) in REASONING_PARTS:
            thoughts += _text_and_thoughts(part.get(kind) or part.get("text"))[0]
        else:
            text += part["text"] or ""
    return text, thoughts


def _reasoning(message: dict[str, Any]) -> str:
    """The model's reasoning where it has a field of its own; some servers send it in two."""
    values = (message.get(key) for key in REASONING_FIELDS)
    return next((value for value in values if value and isinstance(value, str)), "")


def _logprobs(logprobs: Any) -> list[float]:
    """The log-probabilities of one choice's `logprobs`, in the form of chat or of completions."""
    if not logprobs:
        return []
    if "content" in logprobs:
        values = [entry.get("logprob") for entry in logprobs["content"] or []]
    else:
        values = logprobs.get("token_logprobs") or []
    return [math.nan if value is None else float(value) for value in values]
