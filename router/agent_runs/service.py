"""Answers the requests of clients' agents.

A request to `/v1/chat/completions`, `/v1/completions` or `/generate` may carry `run` (a run's name, chosen by the
client) and `agent` (the request's name in it), and may contain `<|answer:NAME|>` where the answer of agent NAME
belongs. It may come before agent NAME's request. With `order: declared` each answer stands at its own placeholder;
with `completion` the placeholders are filled in the order in which the answers end.
"""

from collections import deque
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any

from router.agent_runs.agent_request import read_agent_request
from router.agent_runs.registry import AgentRunRegistry
from router.agent_runs.responses import send_generate_response, send_openai_response
from router.errors import BadRequest
from router.http.asgi import AsgiRequest
from router.moa.agent import run_agent
from router.moa.agent_call import AgentCall
from router.moa.openai_format import EndpointKind, OpenAIFormat
from router.moa.run_context import RunContext
from router.moa.run_limits import RunLimits
from router.observability.run_store import RunStore

if TYPE_CHECKING:
    from router.observability.tracing.request_span import RequestSpan

# The API of each path that takes `run`; None for SGLang's own.
KINDS: dict[str, EndpointKind | None] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/generate": None,
}


class AgentRuns:
    """Answers the requests of clients' runs.

    Attributes:
        runs: The runs.
    """

    def __init__(self, context: RunContext, limits: RunLimits, store: RunStore) -> None:
        self._context = context
        self._limits = limits
        self.runs = AgentRunRegistry(store, limits.settings)

    @staticmethod
    def serves(body: dict[str, Any]) -> bool:
        """Whether a request belongs to a run."""
        return "run" in body

    async def answer(
        self, request: AsgiRequest, path: str, model: str, body: dict[str, Any], span: "RequestSpan | None" = None
    ) -> None:
        """Answer one agent's request; `span` is the request's, None without tracing.

        Raises:
            BadRequest: The request is wrong, or agents would wait for each other.
            Conflict: The run has an agent of that name.
            TooManyRuns: There are too many runs, or requests that wait for others.
            UpstreamTimeout: The request of an agent that it reads never came.
            RouterError: The agent failed, or one that it reads did.
        """
        if path not in KINDS:
            raise BadRequest(f"{path} takes no `run`: only requests that generate text belong to runs.")
        kind = KINDS[path]
        agent_request = read_agent_request(body, kind)
        if kind is None and not self._context.registry.served_by_pairs(model):
            raise BadRequest(f"{model} is served by plain servers, which have no /generate; use /v1/completions.")
        upstream_names = agent_request.draft.upstream_names
        with (
            self._limits.admit(request.client_key) as place,
            self.runs.join(
                agent_request.run, agent_request.agent, model, upstream_names, request.client_key, request.namespace
            ) as slot,
            nullcontext() if span is None else span.start_agent(slot.run_trace, slot.trace) as tracer,
        ):
            if slot.waits:
                # It gives its places up: the requests that it waits for need them.
                place.wait(awaited=slot.awaited)
                request.admission.pause()

            async def before_sending() -> None:
                place.go_on()
                await request.admission.resume()

            latest_event: deque[bytes] = deque(maxlen=1)  # each event of /generate has the whole answer so far
            call = AgentCall(
                run_trace=slot.run_trace,
                trace=slot.trace,
                answer=slot.answer,
                draft=agent_request.draft,
                upstream=slot.upstream,
                order=agent_request.order,
                sampling=agent_request.sampling,
                splice=True,
                keep_output_ids=kind is None,
                answers_client=True,
                streaming=agent_request.stream,
                extra_fields=agent_request.extra_fields,
                on_event=latest_event.append,
                before_sending=before_sending,
                tracer=tracer,
            )
            async with aclosing(run_agent(self._context, call)) as texts:
                if kind is None:
                    await send_generate_response(request, texts, latest_event, stream=agent_request.stream)
                    return
                await send_openai_response(
                    request,
                    texts,
                    slot.trace,
                    OpenAIFormat(kind, f"{agent_request.run}.{slot.trace.agent}", model),
                    stream=agent_request.stream,
                    include_usage=agent_request.include_usage,
                )

    def close(self) -> None:
        """Forget all runs."""
        self.runs.close()
