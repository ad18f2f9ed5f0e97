"""An agent's call on any OpenAI-compatible server: its prompt is sent when it is whole, as messages or text."""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import orjson

from router.dispatch.worker_errors import error_message
from router.errors import AgentRefused, UpstreamFailed, UpstreamTimeout
from router.http.sse import parse_events
from router.http_client.response import Response
from router.moa.agent_call import AgentCall
from router.moa.answer_events import AnswerProgress, read_openai_event
from router.moa.idle_timeout import IdleTimeout
from router.moa.run_context import RunContext
from router.observability.tracing.leg_tracer import UNTRACED_LEG
from router.speculative_prefill.upstream_answer import wait_for_change

OPENAI_NAMES = {"max_new_tokens": "max_tokens", "sampling_seed": "seed"}


async def run_on_plain(context: RunContext, call: AgentCall) -> AsyncGenerator[str]:
    """Pieces of the answer.

    Raises:
        RouterError: The server failed, or an answer that the agent reads did.
    """
    texts = await _texts(call)
    worker = min(context.registry.usable_plain(call.trace.model), key=lambda each: each.load)
    path, body = _body(call, call.draft.filled(texts))
    is_sglang = worker.info.get("sglang") is not None
    rid = uuid.uuid4().hex
    if is_sglang:
        body["rid"] = rid
    finished = False
    worker.load += 1
    try:
        call.sent()
        async with AsyncExitStack() as stack:
            leg = stack.enter_context(UNTRACED_LEG if call.tracer is None else call.tracer.start_leg(worker, path))
            async with asyncio.timeout(call.timeout):
                response = await stack.enter_async_context(
                    await worker.origin.request("POST", path, orjson.dumps(body), leg.headers)
                )
                leg.response_started(response.status)
                await _accepted(call, response)
            stream = await stack.enter_async_context(aclosing(parse_events(response.chunks())))
            progress: AnswerProgress | None = None
            patience = stack.enter_context(IdleTimeout(call.timeout))
            while (event := await patience.next(stream)) is not None:
                call.listen(event)
                before, progress = progress, read_openai_event(event, call.trace.agent, progress)
                yield call.learn(before, progress)
            call.finish(progress)
            finished = True
    except TimeoutError:
        raise UpstreamTimeout(
            f"agent {call.trace.agent} failed: its server said nothing for {call.timeout:g} s."
        ) from None
    finally:
        worker.load -= 1
        if is_sglang and not finished:
            context.dispatcher.abort_on_worker(worker, rid)


def _body(call: AgentCall, content: Any) -> tuple[str, dict[str, Any]]:
    sampling = {OPENAI_NAMES.get(key, key): value for key, value in call.sampling.items()}
    body = {"model": call.trace.model, **sampling, "stream": True, "stream_options": {"include_usage": True}}
    if isinstance(content, str):
        return "/v1/completions", {**body, "prompt": content, **({"logprobs": 1} if call.logprobs else {})}
    return "/v1/chat/completions", {**body, "messages": content, **({"logprobs": True} if call.logprobs else {})}


async def _texts(call: AgentCall) -> list[str]:
    """The answers' texts in their order, once all have ended; raises what any failed with."""
    answers = [call.upstream[name] for name in call.draft.names]
    while True:
        for answer in answers:
            if answer.error is not None:
                raise answer.error
        if all(answer.done for answer in answers):
            break
        await wait_for_change(answers, since=sum(answer.version for answer in answers))
    if call.order == "completion":
        answers.sort(key=lambda answer: answer.finish_order or 0)
    return [answer.text for answer in answers if not answer.dropped]


async def _accepted(call: AgentCall, response: Response) -> None:
    if response.status == 200:
        return
    words = error_message(await response.read())
    kind = AgentRefused if 400 <= response.status < 500 else UpstreamFailed
    raise kind(f"agent {call.trace.agent} failed with {response.status}: {words}")
