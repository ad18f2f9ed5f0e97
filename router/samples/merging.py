"""Merges the responses to the samples of one request, into the form that one SGLang server gives.

SGLang counts the answers prompt by prompt: sample k of prompt i, of n samples, has the index i * n + k.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from router.dispatch.worker_errors import without_traces
from router.errors import UpstreamFailed
from router.http.sse import DONE, format_event

_INDEX = b'"index":'
_OF_ANSWERS = ("completion_tokens", "reasoning_tokens")  # counts in `usage`; others are the prompt's


def merged_response(path: str, bodies: Sequence[bytes], *, batch: bool) -> bytes:
    """The body of a response that is no stream.

    Args:
        path: The request's path.
        bodies: The bodies for the samples, in order.
        batch: Whether the request has a list of prompts.

    Raises:
        UpstreamFailed: They are not of one request.
    """
    try:
        if path != "/generate":
            return orjson.dumps(_merged_answer([orjson.loads(body) for body in bodies]))
        if not batch:
            return b"[%b]" % b",".join(bodies)
        by_prompt = zip(*[orjson.loads(body) for body in bodies], strict=True)
        return orjson.dumps([answer for samples in by_prompt for answer in samples])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _misfit() from None


def _merged_answer(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """An answer of OpenAI's API with the choices of all; the rest is the first sample's."""
    choices = []
    for sample, answer in enumerate(answers):
        for choice in answer["choices"]:
            choice["index"] = choice["index"] * len(answers) + sample
            choices.append(choice)
    choices.sort(key=lambda choice: choice["index"])
    merged = {**answers[0], "choices": choices}
    if "usage" in merged:
        merged["usage"] = merged_usage([answer.get("usage") for answer in answers])
    return merged


def merged_usage(usages: Sequence[Any]) -> Any:
    """The usage of all samples: the tokens of the prompt once, as the first sample reports them, and of all answers."""
    if not all(isinstance(usage, dict) for usage in usages):
        return usages[0]
    first = usages[0]
    merged = {**first, **_sums(first, usages, _OF_ANSWERS)}
    details = [usage.get("completion_tokens_details") for usage in usages]
    if all(isinstance(detail, dict) for detail in details):
        merged["completion_tokens_details"] = {**details[0], **_sums(details[0], details, details[0])}
    if "total_tokens" in merged:
        merged["total_tokens"] = (merged.get("prompt_tokens") or 0) + (merged.get("completion_tokens") or 0)
    return merged


def _sums(first: dict[str, Any], each: Sequence[Any], names: Any) -> dict[str, int]:
    """The sums of the counts that the first one has under these names."""
    return {name: sum(counts.get(name) or 0 for counts in each) for name in names if type(first.get(name)) is int}


class StreamMerger(Protocol):
    """Makes one event stream of those of the samples."""

    def event(self, sample: int, payload: bytes) -> bytes:
        """The event to send for a payload of a sample's stream; empty for one that waits for the end.

        Raises:
            UpstreamFailed: It is an error event, or has an unexpected form.
        """

    def end(self) -> bytes:
        """The last events, once all streams have ended."""


def stream_merger(path: str, count: int, *, batch: bool) -> StreamMerger:
    """The merger of the streams of `count` samples; `path` and `batch` as of `merged_response`."""
    return _GenerateStreams(count, batch=batch) if path == "/generate" else _OpenAIStreams(count)


class _GenerateStreams:
    """Events of `/generate`. Each has the whole answer so far, so it is not parsed: only the index at the end changes.

    Events for a single prompt have no index, and get one.
    """

    def __init__(self, count: int, *, batch: bool) -> None:
        self._count = count
        self._batch = batch

    def event(self, sample: int, payload: bytes) -> bytes:
        if payload.startswith(b'{"error"'):
            raise _reported_error(payload)
        try:
            end = payload.rindex(_INDEX if self._batch else b"}")
            if not self._batch:
                return format_event(b'%b,"index":%d}' % (payload[:end], sample))
            prompt, brace, rest = payload[end + len(_INDEX) :].partition(b"}")
            index = int(prompt) * self._count + sample
        except ValueError:
            raise _misfit() from None
        return format_event(b"%b%b%d%b%b" % (payload[:end], _INDEX, index, brace, rest))

    def end(self) -> bytes:
        return format_event(DONE)


class _OpenAIStreams:
    """Events of OpenAI's API: all get one id, and events without choices, such as the usage, come once at the end."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._id: Any = None
        self._last: list[dict[str, Any]] = []  # of the first sample, for the end
        self._usages: list[Any] = [None] * count

    def event(self, sample: int, payload: bytes) -> bytes:
        try:
            event = orjson.loads(payload)
            if event.get("error"):
                raise _reported_error(payload)
            self._id = self._id or event.get("id")
            if "id" in event:
                event["id"] = self._id
            if not event["choices"]:
                self._keep(sample, event)
                return b""
            for choice in event["choices"]:
                choice["index"] = choice["index"] * self._count + sample
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _misfit() from None
        return format_event(orjson.dumps(event))

    def _keep(self, sample: int, event: dict[str, Any]) -> None:
        if sample == 0:
            self._last.append(event)
        if event.get("usage"):
            self._usages[sample] = event["usage"]

    def end(self) -> bytes:
        for event in self._last:
            if event.get("usage"):
                event["usage"] = merged_usage([event["usage"], *self._usages[1:]])
        return b"".join([format_event(orjson.dumps(event)) for event in self._last]) + format_event(DONE)


def _reported_error(payload: bytes) -> UpstreamFailed:
    """The error in an error event."""
    try:
        error = orjson.loads(payload)["error"]
        message, code = (error["message"], error.get("code")) if isinstance(error, dict) else (error, None)
    except (ValueError, KeyError, TypeError):
        return _misfit()
    failed = UpstreamFailed(without_traces(str(message)))
    failed.upstream_status = code if isinstance(code, int) else None
    return failed


def _misfit() -> UpstreamFailed:
    return UpstreamFailed("the decode server's answers to the samples of one request do not fit together.")
