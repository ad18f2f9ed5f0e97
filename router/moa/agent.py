"""One agent: its call is sent, followed, and sent again when its server fails."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from router.errors import RouterError
from router.moa.agent_call import AgentCall
from router.moa.agent_on_pair import run_on_pair
from router.moa.agent_on_plain import run_on_plain
from router.moa.run_context import RunContext

RETRY_PAUSE = 0.1  # seconds before an agent is asked again


async def run_agent(context: RunContext, call: AgentCall) -> AsyncGenerator[str]:
    """Pieces of one agent's answer, some of them empty; its trace and answer fill meanwhile.

    When it is asked again after it said something, the pieces begin anew.

    Raises:
        RouterError: It failed for good, or an answer that it reads did.
    """
    said = False
    while True:
        paired = context.registry.served_by_pairs(call.trace.model)
        call.begin("pair" if paired else "plain")
        try:
            async with aclosing((run_on_pair if paired else run_on_plain)(context, call)) as pieces:
                async for piece in pieces:
                    said = said or bool(piece)
                    yield piece
            return
        except RouterError as error:
            call.trace.error = str(error)
            if not call.again(error, said=said):
                call.trace.state, call.trace.end = "failed", call.run.now()
                raise
        call.answer.restart()
        await asyncio.sleep(RETRY_PAUSE)
