"""What a client gets of an exchange's two responses: decode's, with prefill's log-probabilities of the prompt."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from router.dispatch.exchange import Exchange
from router.dispatch.prefill_logprobs import stream_with_prefill_logprobs, wants_prefill_logprobs, with_prefill_logprobs
from router.dispatch.worker_errors import raise_failure, refusal_in_stream, without_paths


async def whole_body(path: str, fields: Mapping[str, Any], exchange: Exchange) -> bytes:
    """The body of a response that is no stream, or of an error; `path` and `fields` are the request's."""
    body = b"".join([chunk async for chunk in exchange.body()])
    if exchange.decode.status >= 400:
        return without_paths(body)
    if wants_prefill_logprobs(path, fields):
        return with_prefill_logprobs(path, body, await exchange.prefill_body())
    return body


async def event_lines(path: str, fields: Mapping[str, Any], exchange: Exchange) -> AsyncGenerator[bytes, None]:
    """A response's event stream, in chunks of complete lines; `path` and `fields` are the request's.

    Raises:
        RouterError: As of `raise_failure`, before the first chunk.
    """
    async with aclosing(_complete_lines(exchange)) as lines:
        # Decode's first event first: its error is the better one, and prefill ends before it or soon after.
        first_chunk = await anext(lines, b"")
        raise_failure(first_chunk, exchange.prefill_error)
        if not wants_prefill_logprobs(path, fields) or refusal_in_stream(first_chunk) is not None:
            if first_chunk:
                yield first_chunk
            async for chunk in lines:
                yield chunk
            return
        prefill = await exchange.prefill_body()
        merged = stream_with_prefill_logprobs(path, prepended(first_chunk, lines), prefill)
        async with aclosing(merged) as chunks:
            async for chunk in chunks:
                yield chunk


async def prepended(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """A chunk that was read already, and the rest of its stream."""
    yield first
    async for chunk in rest:
        yield chunk


async def _complete_lines(exchange: Exchange) -> AsyncGenerator[bytes, None]:
    """Decode's event stream in complete lines, so that an error event is never appended to half a line."""
    rest = b""
    async for chunk in exchange.body():
        lines, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            yield lines + newline
    if rest:
        yield rest
