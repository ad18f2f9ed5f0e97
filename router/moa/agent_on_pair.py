"""Backend `pair`: an agent's call on a prefill/decode pair.

The prompt is composed of token ids. With speculative prefill it is sent in segments while upstream answers come.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Any

from router.dispatch.exchange import Exchange
from router.dispatch.worker_errors import error_message
from router.errors import AgentRefused, RouterError, UpstreamFailed, UpstreamTimeout
from router.http.sse import parse_events
from router.load_balancing import RoutingContext, token_prefix
from router.moa.agent_call import AgentCall
from router.moa.answer_progress import AnswerProgress
from router.moa.generate_events import GenerateReader
from router.moa.idle_timeout import IdleTimeout
from router.moa.run_context import RunContext
from router.moa.server_times import server_times
from router.speculative_prefill.composition import Truncate, compose_prompt, same_tokenizer_ids
from router.speculative_prefill.open_prompt import OpenPrompt
from router.speculative_prefill.vocabulary import Vocabulary

STREAM_INTERVAL = 16
"""Tokens between two events of an answer that no client reads as it comes.

An event for every token takes servers and router more time than small models take to decode. What is prefilled ahead of
a reader's prompt comes by at most 15 tokens later; the last event comes at once.
"""
PATIENT_SECONDS = 60.0
"""An agent whose server may be silent for less gets an event for every token, since events are what it listens for."""


async def run_on_pair(context: RunContext, call: AgentCall) -> AsyncGenerator[str]:
    """Yield the answer's new text, event by event.

    Raises:
        RouterError: A server failed, or an upstream answer did.
    """
    model, dispatcher = call.trace.model, context.dispatcher
    pacer = context.pacer(model) if call.splice and call.draft.upstream_names else None
    prompt = OpenPrompt(
        dispatcher,
        lambda: dispatcher.selector.choose_pair(model, RoutingContext(token_prefix(prompt.ids)), call.failed_workers),
        pacer,
        context.context_length(model),
        context.make_transport,
        call.tracer,
        context.open_prompt_metrics,
    )
    try:
        async with prompt, AsyncExitStack() as stack:
            await _compose(context, call, prompt)
            await call.before_sending()
            call.mark_sent()
            body = {**call.extra_fields, "stream": True, "sampling_params": _with_stream_interval(call)}
            if call.return_logprobs:
                body["return_logprob"] = True
            try:
                exchange = await stack.enter_async_context(prompt.finish(body, call.timeout))
                assert prompt.pair is not None
                call.answer.vocabulary = Vocabulary.of_workers(model, (prompt.pair.prefill, prompt.pair.decode))
                async with asyncio.timeout(call.timeout):
                    await _check_status(call, exchange)
                stream = await stack.enter_async_context(aclosing(parse_events(exchange.body())))
                reader = GenerateReader(call.trace.agent)
                progress: AnswerProgress | None = None
                last = b""
                idle_timeout = stack.enter_context(IdleTimeout(call.timeout))
                while (event := await idle_timeout.next(stream)) is not None:
                    call.on_event(event)
                    before, progress, last = progress, reader.read(event), event
                    yield call.update(before, progress)
            except TimeoutError:
                raise UpstreamTimeout(
                    f"agent {call.trace.agent} failed: its servers said nothing for {call.timeout:g} s."
                ) from None
            call.trace.server_seconds = server_times(exchange.prefill_so_far, last)
            call.finish(progress)
    except RouterError:
        if prompt.pair is not None:
            call.failed_workers.update((prompt.pair.prefill, prompt.pair.decode))
        raise
    finally:
        call.trace.speculation = prompt.speculation.to_json()
        call.trace.segments = [(call.run_trace.at(a), call.run_trace.at(b), tokens) for a, b, tokens in prompt.segments]


def _with_stream_interval(call: AgentCall) -> dict[str, Any]:
    """The call's sampling parameters with how often its server sends an event, unless they say it themselves."""
    if call.streaming or call.timeout < PATIENT_SECONDS:
        return call.sampling
    return {"stream_interval": STREAM_INTERVAL, **call.sampling}


async def _compose(context: RunContext, call: AgentCall, prompt: OpenPrompt) -> None:
    """Append to the prompt as upstream answers come; return when it is complete."""
    model = call.trace.model
    template = await call.draft.template(lambda: context.tokenizer(model), context.templates)
    encode = context.answer_encoder(model) if template.slots else same_tokenizer_ids
    async with aclosing(compose_prompt(template, call.upstream, call.order, encode)) as parts:
        async for part in parts:
            if isinstance(part, Truncate):
                prompt.truncate(part.length)
            else:
                prompt.append(part)


async def _check_status(call: AgentCall, exchange: Exchange) -> None:
    status = exchange.decode.status
    if status == 200:
        return
    message = error_message(b"".join([chunk async for chunk in exchange.body()]))
    error_type = AgentRefused if 400 <= status < 500 else UpstreamFailed
    raise error_type(f"agent {call.trace.agent} failed with {status}: {message}")
