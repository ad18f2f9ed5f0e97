"""Reads the events of a streamed answer of SGLang's `/generate`."""

import math
import re
from typing import Any

import orjson

from router.dispatch.worker_errors import error_message
from router.errors import AgentRefused, UpstreamFailed
from router.moa.answer_progress import AnswerProgress

# Where an event has its text and its token ids. Without a tokenizer it has no text.
TEXT_START = re.compile(rb'\s*\{\s*"text"\s*:\s*"')
IDS_START = re.compile(rb'(?:\s*,|\s*\{)\s*"output_ids"\s*:\s*\[')
STRING_END = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
STILL_RUNNING = re.compile(rb'"finish_reason"\s*:\s*null')
COMPLETION_TOKENS = re.compile(rb'"completion_tokens"\s*:\s*(\d+)')


class GenerateReader:
    """Reads the events of one `/generate` stream, each of which repeats the whole answer so far.

    Parsing each of them would take time that grows with the square of the answer's length, most of it for
    log-probabilities that only the last event is read for. So an event whose start is the one before's is not parsed:
    only the text and the token ids behind that start are, and the counts. Any other event is parsed whole.

    Args:
        agent: The agent's name, for errors.
    """

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._before: AnswerProgress | None = None
        self._text_head = b""  # the last event up to the end of its text, without the closing quote
        self._ids_head = b""  # from there to the last token id

    def read(self, event: bytes) -> AnswerProgress:
        """The answer with this event.

        Raises:
            UpstreamFailed: The event has an error or an unknown form; the message names the agent.
        """
        try:
            progress = self._read_new_part(event)
        except (ValueError, IndexError):
            progress = None
        if progress is None:
            progress = read_event(event, self._agent)
            self._remember(event, progress)
        self._before = progress
        return progress

    def _remember(self, event: bytes, progress: AnswerProgress) -> None:
        """Note where the text and the token ids of an event end; nothing where that is not found."""
        self._text_head = self._ids_head = b""
        text = TEXT_START.match(event)
        text_end = STRING_END.match(event, text.end()) if text is not None else None
        ids = IDS_START.match(event, 0 if text_end is None else text_end.end())
        has_text_elsewhere = text is None and b'"text"' in event
        if ids is None or not progress.ids or has_text_elsewhere:
            return
        self._set_heads(event, 0 if text_end is None else text_end.end() - 1, event.index(b"]", ids.end()))

    def _set_heads(self, event: bytes, text_end: int, ids_end: int) -> None:
        self._text_head, self._ids_head = event[:text_end], event[text_end:ids_end]

    def _read_new_part(self, event: bytes) -> AnswerProgress | None:
        """The answer with an event that goes on where the one before ended; None for any other event."""
        before = self._before
        if before is None or not self._ids_head or not event.startswith(self._text_head):
            return None
        text_start = text_end = len(self._text_head)
        new_text = ""
        if self._text_head:
            end_of_text = STRING_END.match(event, text_start)
            if end_of_text is None:
                return None
            text_end = end_of_text.end() - 1
            new_text = orjson.loads(b'"%b"' % event[text_start:text_end])
        if not event.startswith(self._ids_head, text_end):
            return None
        ids_start = text_end + len(self._ids_head)
        ids_end = event.index(b"]", ids_start)
        new_ids = _ids_after_others(event[ids_start:ids_end])
        # The first finish reason is the event's own: its log-probabilities and what follows have none.
        running = event.find(b'"finish_reason"', ids_end)
        counted = COMPLETION_TOKENS.match(event, event.rfind(b'"completion_tokens"', ids_end))
        if running < 0 or STILL_RUNNING.match(event, running) is None or counted is None:
            return None
        self._set_heads(event, text_end, ids_end)
        prompt_tokens, _, cached_tokens = before.token_counts
        return AnswerProgress(
            before.text + new_text, [*before.ids, *new_ids], (prompt_tokens, int(counted[1]), cached_tokens)
        )


def _ids_after_others(raw: bytes) -> list[int]:
    """The token ids of the end of a JSON list; raises `ValueError` when it goes on within a number."""
    if not raw.strip():
        return []
    if not raw.lstrip().startswith(b","):
        raise ValueError("the last token id has changed")
    ids: list[int] = orjson.loads(b"[%b]" % raw.lstrip()[1:])
    return ids


def read_event(event: bytes, agent: str) -> AnswerProgress:
    """Read one event of `/generate` whole; raises as `GenerateReader.read`."""
    try:
        payload = orjson.loads(event)
        if payload.get("error"):
            raise error_of_event(payload, agent, event)
        progress = _read_payload(payload)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UpstreamFailed(f"agent {agent} failed: its answer is not in SGLang's form.") from None
    if progress.finish_reason == "abort":
        raise UpstreamFailed(f"agent {agent} failed: its worker aborted it ({progress.matched or 'no cause given'}).")
    return progress


def error_of_event(payload: dict[str, Any], agent: str, event: bytes) -> UpstreamFailed | AgentRefused:
    """The error of an event that has one: SGLang refuses requests for streams so, with a status of 400 to 499."""
    error = payload["error"]
    code = error.get("code") if isinstance(error, dict) else None
    kind = AgentRefused if type(code) is int and 400 <= code < 500 else UpstreamFailed
    return kind(f"agent {agent} failed while it answered: {error_message(event)}")


def _read_payload(payload: dict[str, Any]) -> AnswerProgress:
    meta = payload["meta_info"]
    finish = meta.get("finish_reason") or {}
    if finish.get("type") == "abort":  # such an event has no counts
        return AnswerProgress(finish_reason="abort", matched=finish.get("message"))
    token_counts = (meta["prompt_tokens"], meta["completion_tokens"], meta.get("cached_tokens", 0))
    finish_reason = finish.get("type")
    # Each event has those of all tokens so far: only the last one is read.
    token_logprobs = meta.get("output_token_logprobs") or [] if finish_reason is not None else []
    logprobs = [math.nan if entry[0] is None else float(entry[0]) for entry in token_logprobs]
    text, ids = payload.get("text") or "", payload["output_ids"]
    return AnswerProgress(text, ids, token_counts, finish_reason, finish.get("matched"), logprobs)
