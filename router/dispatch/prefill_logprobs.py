"""Copies log-probabilities that only prefill has into decode's response.

Those of the prompt stand in `meta_info` of `/generate`, and in `choices[i].logprobs` of completions with `echo`, before
those of the answer. Of the answer's first token, which prefill samples, SGLang 0.5.17 hands decode all but those of
named tokens (`token_ids_logprob` of `/generate`). For a stream prefill is asked for a whole response, which is complete
before decode's first event is passed on.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import orjson

from router.errors import UpstreamFailed

_KEYS = ("input_token_logprobs", "input_top_logprobs", "input_token_ids_logprobs")
_NAMED = "output_token_ids_logprobs"
_LISTS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
_INDEX = b'"index":'
_NAMED_ROWS = b'"%b":[' % _NAMED.encode()


def wants_prefill_logprobs(path: str, fields: Mapping[str, Any]) -> bool:
    """Whether the response to a request has log-probabilities that only prefill has, or may have them."""
    if path == "/generate":
        if not _any(fields.get("return_logprob")):
            return False
        starts, named = _as_list(fields.get("logprob_start_len")), _as_list(fields.get("token_ids_logprob"))
        return any(start not in (None, -1) for start in starts) or any(token is not None for token in named)
    return path == "/v1/completions" and bool(fields.get("echo")) and fields.get("logprobs") is not None


def _any(value: Any) -> bool:
    return any(_as_list(value))


def with_prefill_logprobs(path: str, decode: bytes, prefill: bytes) -> bytes:
    """Decode's response with what only prefill's has; both are whole JSON responses.

    Raises:
        UpstreamFailed: They are not of one request.
    """
    try:
        answer = orjson.loads(decode)
        if path == "/generate":
            answers, sources = _as_list(answer), _as_list(orjson.loads(prefill))
            for target, source in zip(answers, sources, strict=True):
                told, of_prefill = target["meta_info"], source["meta_info"]
                told |= {key: of_prefill[key] for key in _KEYS if key in of_prefill}
                if first := _first_of_named(of_prefill):
                    rows = told[_NAMED]
                    told[_NAMED] = [*first, *(rows[1:] if rows[:1] == [None] else rows)]
        else:
            prompts = _completion_prompts(prefill)
            for choice in answer["choices"]:
                _prepend(choice["logprobs"], prompts[choice["index"]])
    except (ValueError, KeyError, TypeError, IndexError):
        raise _misfit() from None
    return orjson.dumps(answer)


async def stream_with_prefill_logprobs(
    path: str, lines: AsyncIterator[bytes], prefill: bytes
) -> AsyncGenerator[bytes, None]:
    """Decode's event stream, in chunks of complete lines, with what only prefill's response has.

    As without disaggregation, `/generate` has them in each event, and completions in the first of each choice.

    Raises:
        UpstreamFailed: The two responses are not of one request.
    """
    try:
        merge = _GenerateEvents(prefill) if path == "/generate" else _CompletionEvents(prefill)
        async for chunk in lines:
            yield b"".join([merge.line(line) for line in chunk.splitlines(keepends=True)])
    except (ValueError, KeyError, TypeError, IndexError):
        raise _misfit() from None


class _GenerateEvents:
    """Events of `/generate`. They grow with the answer, so their lists are filled in without parsing them.

    A string inside an event cannot be mistaken for such a list, for its quotes are escaped.
    """

    def __init__(self, prefill: bytes) -> None:
        response = orjson.loads(prefill)
        self._batch = isinstance(response, list)
        self._lists = [
            [
                (b'"%b":[]' % key.encode(), b'"%b":%b' % (key.encode(), orjson.dumps(each["meta_info"][key])))
                for key in _KEYS
                if each["meta_info"].get(key)
            ]
            for each in _as_list(response)
        ]
        self._first_rows = [
            orjson.dumps(first)[1:-1] if (first := _first_of_named(each["meta_info"])) else b""
            for each in _as_list(response)
        ]

    def line(self, line: bytes) -> bytes:
        if not line.startswith(b"data: {"):
            return line
        index = int(line[line.rindex(_INDEX) + len(_INDEX) :].partition(b"}")[0]) if self._batch else 0
        for empty, filled in self._lists[index]:
            line = line.replace(empty, filled, 1)
        if row := self._first_rows[index]:
            line = line.replace(_NAMED_ROWS + b"null", _NAMED_ROWS + row, 1)
        return line


def _first_of_named(meta_info: Mapping[str, Any]) -> list[Any]:
    """The row of the answer's first token, in a list; empty where no tokens were named.

    The overlay's decode servers have null in its place. Others have nothing there, and in streams miss rows anyway.
    """
    rows: list[Any] = meta_info.get(_NAMED) or []
    return [row for row in rows[:1] if row]


class _CompletionEvents:
    """Events of completions: the first one of each choice gets its prompt's."""

    def __init__(self, prefill: bytes) -> None:
        self._prompts = _completion_prompts(prefill)

    def line(self, line: bytes) -> bytes:
        if not self._prompts or not line.startswith(b"data: {"):
            return line
        event = orjson.loads(line[6:])
        for choice in event.get("choices", ()):
            if (prompt := self._prompts.pop(choice["index"], None)) is not None:
                choice["logprobs"] = choice.get("logprobs") or {name: [] for name in _LISTS}
                _prepend(choice["logprobs"], prompt)
        return b"data: %b\n" % orjson.dumps(event)


def _completion_prompts(prefill: bytes) -> dict[int, dict[str, list[Any]]]:
    """The prompt's part of each choice's `logprobs`: all but what prefill sampled, as many tokens for each choice."""
    response = orjson.loads(prefill)
    choices = response["choices"]
    sampled = sum(len(choice["logprobs"]["tokens"]) for choice in choices) - response["usage"]["prompt_tokens"]
    if not choices or sampled % len(choices):
        raise ValueError
    kept = sampled // len(choices)
    return {
        choice["index"]: {name: _without_last(choice["logprobs"][name], kept) for name in _LISTS} for choice in choices
    }


def _without_last(values: list[Any], count: int) -> list[Any]:
    return values[: len(values) - count]


def _prepend(logprobs: dict[str, list[Any]], prompt: dict[str, list[Any]]) -> None:
    for name in _LISTS:
        logprobs[name] = prompt[name] + logprobs[name]


def _as_list(response: Any) -> list[Any]:
    return response if isinstance(response, list) else [response]


def _misfit() -> UpstreamFailed:
    return UpstreamFailed("the prefill and the decode server answered in forms that do not fit together.")
