"""One agent: runs its call, and retries it when its server fails."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from router.errors import RouterError
from router.moa.agent_backends import backend_for
from router.moa.agent_call import AgentCall
from router.moa.run_context import RunContext

RETRY_BACKOFF = 0.1  # seconds between two attempts


async def run_agent(context: RunContext, call: AgentCall) -> AsyncGenerator[str]:
    """Yield new text of one agent's answer, some of it empty; its trace and answer fill meanwhile.

    After a retry the text begins anew.

    Raises:
        RouterError: The last attempt failed, or an upstream answer did.
    """
    text_sent = False
    while True:
        await context.dispatcher.selector.restarts.wait(call.trace.model)
        backend = backend_for(context.registry, call.trace.model)
        call.begin_attempt(backend.name)
        try:
            async with aclosing(backend.run(context, call)) as texts:
                async for text in texts:
                    text_sent = text_sent or bool(text)
                    yield text
            return
        except RouterError as error:
            call.trace.error = str(error)
            if not call.should_retry(error, text_sent=text_sent):
                call.trace.state, call.trace.end = "failed", call.run_trace.now()
                raise
        call.answer.restart()
        await asyncio.sleep(RETRY_BACKOFF)
