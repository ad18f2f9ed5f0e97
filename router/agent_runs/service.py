"""Agents of clients: requests that name a run, and read each other's answers while these still come.

Any request to `/v1/chat/completions`, `/v1/completions` or `/generate` may carry `run` (the run's name, chosen by the
client) and `agent` (this request's name in it), and may hold `<|answer:NAME|>` where the answer of agent NAME belongs.
It may come before the request of agent NAME does. `order` is `declared` (each answer stands where its place is) or
`completion` (the places are filled in the order in which the answers end).
"""

import re
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any, get_args

import orjson

from router.agent_runs.board import AgentRunRegistry
from router.errors import BadRequest, RouterError
from router.http.asgi import AsgiRequest
from router.http.sse import DONE, format_error, format_event
from router.moa.agent import run_agent
from router.moa.agent_call import AgentCall
from router.moa.openai_format import EndpointKind, OpenAIFormat
from router.moa.prompt_draft import Content, PromptDraft
from router.moa.run import sglang_sampling
from router.moa.run_context import RunContext
from router.moa.run_limits import RunLimits
from router.moa.tree_request import FORWARDED_SAMPLING, UNSUPPORTED_FIELDS
from router.observability.run_store import RunStore
from router.speculative_prefill.composition import AnswerOrder
from router.speculative_prefill.template import AGENT_NAME, PLACEHOLDER

if TYPE_CHECKING:
    from router.observability.tracing.request_span import RequestSpan

OURS = ("run", "agent", "order")
PROMPTS = ("messages", "prompt", "text", "input_ids")
KINDS: dict[str, EndpointKind | None] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/generate": None,
}


class AgentRuns:
    """Answers the requests of clients' runs."""

    def __init__(self, context: RunContext, limits: RunLimits, store: RunStore) -> None:
        self._context = context
        self._limits = limits
        self._board = AgentRunRegistry(store)

    @staticmethod
    def serves(body: dict[str, Any]) -> bool:
        """Whether a request belongs to a run."""
        return "run" in body

    async def answer(
        self, request: AsgiRequest, path: str, model: str, body: dict[str, Any], span: "RequestSpan | None" = None
    ) -> None:
        """Answer one agent's request, whose span `span` is where it is traced.

        Raises:
            BadRequest: It is wrong, or agents would read each other in a circle.
            Conflict: The run has an agent of that name.
            UpstreamTimeout: An agent that it reads never began.
            RouterError: It failed, or an agent that it reads did.
        """
        if path not in KINDS:
            raise BadRequest(f"{path} takes no `run`: only requests that generate text belong to runs.")
        kind = KINDS[path]
        run, agent, order = _named(body)
        draft = _draft(body)
        sampling, extra = _sampling(body, kind)
        if kind is None and not self._context.registry.served_by_pairs(model):
            raise BadRequest(f"{model} is served by plain servers, which have no /generate; use /v1/completions.")
        with (
            self._limits.admit(request.client_key),
            self._board.join(run, agent, model, draft.names, order) as seat,
            nullcontext() if span is None else span.start_agent(seat.trace, seat.agent) as tracer,
        ):
            events: deque[bytes] = deque(maxlen=1)  # each of a server's native events tells all before it
            call = AgentCall(
                run=seat.trace,
                trace=seat.agent,
                answer=seat.answer,
                draft=draft,
                upstream=seat.upstream,
                order=order,
                sampling=sampling,
                splice=True,
                ids=kind is None,
                heard=bool(body.get("stream")),
                extra=extra,
                listen=events.append,
                tracer=tracer,
            )
            async with aclosing(run_agent(self._context, call)) as pieces:
                if kind is None:
                    await _native(request, pieces, events, stream=bool(body.get("stream")))
                    return
                form = OpenAIFormat(kind, f"{run}.{seat.agent.agent}", model)
                if not body.get("stream"):
                    async for _ in pieces:
                        pass
                    choice = form.choice(0, seat.agent.text, seat.agent.finish_reason, [])
                    await request.send_json(form.whole([choice], seat.agent.usage()))
                    return
                include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
                first = await anext(pieces, "")
                await request.send_stream(_events(form, call, first, pieces, include_usage=include_usage))

    def close(self) -> None:
        """Forget all runs."""
        self._board.close()


async def _native(request: AsgiRequest, pieces: AsyncGenerator[str], events: Sequence[bytes], *, stream: bool) -> None:
    """The server's own events; without a stream, the last of them, which tells all."""
    if not stream:
        async for _ in pieces:
            pass
        await request.send_response(200, events[-1])
        return
    await anext(pieces, "")

    async def chunks() -> AsyncGenerator[bytes]:
        yield format_event(events[-1])
        try:
            async for _ in pieces:
                yield format_event(events[-1])
        except RouterError as error:
            yield format_error(error)
            return
        yield format_event(DONE)

    await request.send_stream(chunks())


async def _events(
    form: OpenAIFormat, call: AgentCall, first: str, rest: AsyncGenerator[str], *, include_usage: bool
) -> AsyncGenerator[bytes]:
    yield format_event(orjson.dumps(form.piece(0, first, first=True)))
    try:
        async for text in rest:
            if text:
                yield format_event(orjson.dumps(form.piece(0, text)))
    except RouterError as error:
        yield format_error(error)
        return
    yield format_event(orjson.dumps(form.last(0, call.trace.finish_reason)))
    if include_usage:
        yield format_event(orjson.dumps(form.usage(call.trace.usage())))
    yield format_event(DONE)


def _named(body: dict[str, Any]) -> tuple[str, str | None, AnswerOrder]:
    for key in ("run", "agent"):
        given = body.get(key)
        if given is None and key == "agent":
            continue
        if not isinstance(given, str) or not re.fullmatch(AGENT_NAME, given):
            raise BadRequest(f"`{key}` must be 1 to 64 letters, digits or ._:- and begin with a letter or digit.")
    order: AnswerOrder = body.get("order") or "declared"
    if order not in get_args(AnswerOrder):
        raise BadRequest(f"`order` must be one of {', '.join(get_args(AnswerOrder))}.")
    return body["run"], body.get("agent"), order


def _draft(body: dict[str, Any]) -> PromptDraft:
    """The prompt and whose answers belong into it."""
    given = [(key, body[key]) for key in PROMPTS if body.get(key) is not None]
    if len(given) != 1:
        raise BadRequest(f"a request of a run has one prompt: one of {', '.join(f'`{key}`' for key in PROMPTS)}.")
    key, content = given[0]
    if not content:
        raise BadRequest(f"`{key}` is empty; give a prompt.")
    if key == "messages":
        if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
            raise BadRequest("`messages` must be a list of messages.")
        names = [name for message in content for name in PLACEHOLDER.findall(_text_of(message))]
    elif isinstance(content, str):
        names = PLACEHOLDER.findall(content)
    else:
        names = _names_among(content, key)
    return PromptDraft(tuple(names), lambda texts: _put(content, texts))


def _names_among(content: object, key: str) -> list[str]:
    """Of places among token ids."""
    items = content if isinstance(content, list) else [None]
    found = [PLACEHOLDER.fullmatch(each) if isinstance(each, str) else None for each in items]
    if any(place is None and type(each) is not int for place, each in zip(found, items, strict=True)):
        raise BadRequest(f"`{key}` must be one text, or token ids with places like '<|answer:NAME|>' among them.")
    return [place[1] for place in found if place is not None]


def _text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise BadRequest("in a request of a run each message's `content` must be one text.")
    return content or ""


def _put(content: Any, texts: Sequence[str]) -> Content:
    """The content with `texts` in its places, in their order."""
    left = iter(texts)

    def fill(text: str) -> str:
        return PLACEHOLDER.sub(lambda _: next(left, ""), text)

    if isinstance(content, str):
        return fill(content)
    if isinstance(content[0], dict):
        return [{**each, "content": fill(each.get("content") or "")} for each in content]
    return [fill(each) if isinstance(each, str) else each for each in content]


def _sampling(body: dict[str, Any], kind: EndpointKind | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sampling by SGLang's names, and what else `/generate` was told."""
    if kind is None:
        sampling = body.get("sampling_params") or {}
        if not isinstance(sampling, dict):
            raise BadRequest("`sampling_params` must be an object.")
        taken = (*OURS, *PROMPTS, "sampling_params", "stream", "rid", "model")
        return sampling, {key: value for key, value in body.items() if key not in taken}
    for key in (*UNSUPPORTED_FIELDS, "response_format"):
        if body.get(key) not in (None, False, 0, [], "", {"type": "text"}):
            raise BadRequest(f"`{key}` cannot be used in a request of a run; leave it out.")
    if body.get("n") not in (None, 1):
        raise BadRequest("`n` must be 1 in a request of a run: its readers read one answer.")
    if not isinstance(body.get("stream_options") or {}, dict):
        raise BadRequest("`stream_options` must be an object.")
    sampling = {key: body[key] for key in FORWARDED_SAMPLING if body.get(key) is not None}
    if body.get("max_completion_tokens") is not None:
        sampling["max_tokens"] = body["max_completion_tokens"]
    # The endpoints' own defaults: as long as the context lasts, and 16 tokens.
    sampling.setdefault("max_tokens", None if kind == "chat" else 16)
    return sglang_sampling(sampling), {}
