"""Backend `plain`: an agent's call on any OpenAI-compatible server.

The prompt is sent as messages or text, once all upstream answers are complete. Where it would have been prefilled while
they are written, had the model a pair, the agent's trace says why it was not.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import orjson

from router.dispatch.rank_fields import rank_fields
from router.dispatch.worker_errors import error_message
from router.dispatch.worker_use import WorkerUse
from router.errors import AgentRefused, RouterError, UpstreamFailed, UpstreamTimeout
from router.http.sse import EventStream
from router.http_client.response import Response
from router.load_balancing import RoutingContext, prompt_prefix
from router.moa.agent_call import AgentCall
from router.moa.answer_progress import AnswerProgress
from router.moa.idle_timeout import IdleTimeout
from router.moa.openai_events import OpenAIReader
from router.moa.run_context import RunContext
from router.moa.sampling import openai_sampling
from router.observability.tracing.leg_tracer import UNTRACED_LEG
from router.speculative_prefill.template import without_system_role
from router.speculative_prefill.upstream_answer import AnswerWatch

NOT_PREFILLED_AHEAD = "plain server"
"""Why the prompt of an agent here is not prefilled while the answers it reads are written."""


async def run_on_plain(context: RunContext, call: AgentCall) -> AsyncGenerator[str]:
    """Yield the answer's new text, event by event.

    Raises:
        RouterError: The server failed, its answer has no text, or an upstream answer failed.
    """
    asked = call.splice and bool(call.draft.upstream_names)
    call.trace.speculation = {"used": 0, "reason": NOT_PREFILLED_AHEAD} if asked else {}
    answers = await _upstream_texts(call)
    path, body = _request_body(call, call.draft.with_answers(answers))
    worker = context.dispatcher.selector.choose_plain(
        call.trace.model, RoutingContext(prompt_prefix(body)), call.failed_workers
    )
    body |= {"model": worker.served.own_name_of(call.trace.model), **rank_fields(body, worker)}
    is_sglang = worker.report.sglang is not None
    rid = uuid.uuid4().hex
    if is_sglang:
        body["rid"] = rid
    finished = False
    try:
        await call.before_sending()
        call.mark_sent()
        async with AsyncExitStack() as stack:
            use = stack.enter_context(WorkerUse(worker, model=call.trace.model))
            leg = stack.enter_context(
                UNTRACED_LEG if call.tracer is None else call.tracer.start_leg(worker, path, call.trace.model)
            )
            async with asyncio.timeout(call.timeout):
                response = await stack.enter_async_context(
                    await worker.origin.request("POST", path, orjson.dumps(body), leg.headers, on_change=use.on_data)
                )
                if response.status == 400 and (merged := without_system_role(body.get("messages") or [])):
                    # Perhaps its template refuses the system role; if that is not why, the same error comes again.
                    raw = orjson.dumps(body | {"messages": merged})
                    response = await stack.enter_async_context(
                        await worker.origin.request("POST", path, raw, leg.headers, on_change=use.on_data)
                    )
                use.status = response.status
                leg.response_started(response.status)
                await _check_status(call, response)
            events = EventStream(response.chunks(), or_json=True)
            stream = await stack.enter_async_context(aclosing(events.payloads()))
            reader = OpenAIReader(call.trace.agent)
            progress: AnswerProgress | None = None
            idle_timeout = stack.enter_context(IdleTimeout(call.timeout))
            while (event := await idle_timeout.next(stream)) is not None:
                call.on_event(event)
                before, progress = progress, reader.read(event)
                yield call.update(before, progress)
            before, progress = progress, reader.end(complete=events.complete)
            call.update(before, progress)
            call.finish(progress)
            finished = True
    except RouterError:
        call.failed_workers.add(worker)
        raise
    except TimeoutError:
        call.failed_workers.add(worker)
        raise UpstreamTimeout(
            f"agent {call.trace.agent} failed: its server said nothing for {call.timeout:g} s."
        ) from None
    finally:
        if is_sglang and not finished:
            context.dispatcher.background.abort((worker,), rid)


def _request_body(call: AgentCall, content: Any) -> tuple[str, dict[str, Any]]:
    """Path and body of the request: completions for text, chat for messages."""
    sampling = openai_sampling(call.sampling)
    body = {"model": call.trace.model, **sampling, "stream": True, "stream_options": {"include_usage": True}}
    if isinstance(content, str):
        return "/v1/completions", {**body, "prompt": content, **({"logprobs": 1} if call.return_logprobs else {})}
    body |= call.draft.template_options
    return "/v1/chat/completions", {**body, "messages": content, **({"logprobs": True} if call.return_logprobs else {})}


async def _upstream_texts(call: AgentCall) -> list[str]:
    """The upstream answers' texts in prompt order, once all have ended; raises the error of one that failed."""
    answers = [call.upstream[name] for name in call.draft.upstream_names]
    with AnswerWatch(answers) as watch:
        await watch.all_finished()
    if call.order == "completion":
        answers.sort(key=lambda answer: answer.finish_order or 0)
    return [answer.text for answer in answers if not answer.dropped]


async def _check_status(call: AgentCall, response: Response) -> None:
    if response.status == 200:
        return
    message = error_message(await response.read())
    error_type = AgentRefused if 400 <= response.status < 500 else UpstreamFailed
    raise error_type(f"agent {call.trace.agent} failed with {response.status}: {message}")
