"""An agent's call on a prefill/decode pair: its prompt is composed of token ids, in segments where that is wanted."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

from router.dispatch.exchange import Exchange
from router.dispatch.worker_errors import error_message
from router.errors import AgentRefused, UpstreamFailed, UpstreamTimeout
from router.http.sse import parse_events
from router.load_balancing import token_prefix
from router.moa.agent_call import AgentCall
from router.moa.answer_events import AnswerProgress, read_event
from router.moa.idle_timeout import IdleTimeout
from router.moa.run_context import RunContext
from router.speculative_prefill.composition import Truncate, compose_prompt, same_tokenizer_ids
from router.speculative_prefill.open_prompt import OpenPrompt


async def run_on_pair(context: RunContext, call: AgentCall) -> AsyncGenerator[str]:
    """Pieces of the answer.

    Raises:
        RouterError: A server failed, or an answer that the agent reads did.
    """
    model, dispatcher = call.trace.model, context.dispatcher
    pacer = context.pacer(model) if call.splice and call.draft.names else None
    prompt = OpenPrompt(
        dispatcher,
        lambda: dispatcher.choose_pair(model, token_prefix(prompt.ids)),
        pacer,
        context.limit(model),
        context.carry,
        call.tracer,
        context.metrics,
    )
    call.answer.model = model
    try:
        async with prompt, AsyncExitStack() as stack:
            await _write(context, call, prompt)
            call.sent()
            body = {**call.extra, "stream": True, "sampling_params": call.sampling}
            if call.logprobs:
                body["return_logprob"] = True
            try:
                async with asyncio.timeout(call.timeout):
                    exchange = await stack.enter_async_context(prompt.finish(body))
                    await _accepted(call, exchange)
                stream = await stack.enter_async_context(aclosing(parse_events(exchange.body())))
                progress: AnswerProgress | None = None
                patience = stack.enter_context(IdleTimeout(call.timeout))
                while (event := await patience.next(stream)) is not None:
                    call.listen(event)
                    before, progress = progress, read_event(event, call.trace.agent)
                    yield call.learn(before, progress)
            except TimeoutError:
                raise UpstreamTimeout(
                    f"agent {call.trace.agent} failed: its servers said nothing for {call.timeout:g} s."
                ) from None
            call.finish(progress)
    finally:
        call.trace.speculation = prompt.speculation.to_json()
        call.trace.segments = [(call.run.at(a), call.run.at(b), tokens) for a, b, tokens in prompt.segments]


async def _write(context: RunContext, call: AgentCall, prompt: OpenPrompt) -> None:
    """Put the prompt together as the answers come; returns when it is whole."""
    model = call.trace.model
    template = await call.draft.template(lambda: context.tokenizer(model))
    encode = same_tokenizer_ids if call.draft.is_ids or not template.slots else context.encoder(model)
    async with aclosing(compose_prompt(template, call.upstream, call.order, encode)) as parts:
        async for part in parts:
            if isinstance(part, Truncate):
                prompt.truncate(part.length)
            else:
                prompt.append(part)


async def _accepted(call: AgentCall, exchange: Exchange) -> None:
    status = exchange.decode.status
    if status == 200:
        return
    words = error_message(b"".join([chunk async for chunk in exchange.body()]))
    kind = AgentRefused if 400 <= status < 500 else UpstreamFailed
    raise kind(f"agent {call.trace.agent} failed with {status}: {words}")
