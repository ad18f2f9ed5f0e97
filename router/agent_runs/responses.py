"""Responses to an agent's request: SGLang's own events for `/generate`, OpenAI's form for the other paths."""

from collections.abc import AsyncGenerator, Sequence

import orjson

from router.errors import RouterError
from router.http.asgi import AsgiRequest
from router.http.sse import DONE, format_error, format_event
from router.moa.openai_format import OpenAIFormat
from router.observability.run_trace import AgentTrace


async def send_generate_response(
    request: AsgiRequest, texts: AsyncGenerator[str], events: Sequence[bytes], *, stream: bool
) -> None:
    """Answer with the server's own events, or without a stream with the last one, which has the whole answer.

    Args:
        request: The client's request.
        texts: The agent's answer; each item comes after an event.
        events: The latest event of the server as its last item.
        stream: Whether to send each event as it comes.
    """
    if not stream:
        async for _ in texts:
            pass
        await request.send_response(200, events[-1])
        return
    await anext(texts, "")

    async def chunks() -> AsyncGenerator[bytes]:
        yield format_event(events[-1])
        try:
            async for _ in texts:
                yield format_event(events[-1])
        except RouterError as error:
            yield format_error(error)
            return
        yield format_event(DONE)

    await request.send_stream(chunks())


async def send_openai_response(
    request: AsgiRequest,
    texts: AsyncGenerator[str],
    agent: AgentTrace,
    response_format: OpenAIFormat,
    *,
    stream: bool,
    include_usage: bool,
) -> None:
    """Answer in OpenAI's form with the text, finish reason and usage that fill the agent's trace."""
    if not stream:
        async for _ in texts:
            pass
        choice = response_format.choice(0, agent.text, agent.finish_reason, [])
        await request.send_json(response_format.response([choice], agent.usage()))
        return
    # The first text comes before the status line, so that an agent that fails early gets its error's status.
    first = await anext(texts, "")
    await request.send_stream(_openai_chunks(response_format, agent, first, texts, include_usage=include_usage))


async def _openai_chunks(
    response_format: OpenAIFormat,
    agent: AgentTrace,
    first: str,
    rest: AsyncGenerator[str],
    *,
    include_usage: bool,
) -> AsyncGenerator[bytes]:
    yield format_event(orjson.dumps(response_format.chunk(0, first, first=True)))
    try:
        async for text in rest:
            if text:
                yield format_event(orjson.dumps(response_format.chunk(0, text)))
    except RouterError as error:
        yield format_error(error)
        return
    yield format_event(orjson.dumps(response_format.last_chunk(0, agent.finish_reason)))
    if include_usage:
        yield format_event(orjson.dumps(response_format.usage_chunk(agent.usage())))
    yield format_event(DONE)
