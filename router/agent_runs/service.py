"""Answers the requests of clients' agents.

A request to `/v1/chat/completions`, `/v1/completions` or `/generate` may carry `run` (a run's name, chosen by the
client) and `agent` (the request's name in it), and may contain `<|answer:NAME|>` where the answer of agent NAME
belongs. It may come before agent NAME's request. With `order: declared` each answer stands at its own placeholder;
with `completion` the placeholders are filled in the order in which the answers end.
"""

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from router.agent_runs.agent_request import AgentRequest, read_agent_request
from router.agent_runs.registry import AgentRunRegistry, JoinedAgent, NewAgent
from router.agent_runs.responses import send_generate_response, send_openai_response
from router.errors import BadRequest
from router.http.asgi import AsgiRequest
from router.moa.agent import run_agent
from router.moa.agent_call import AgentCall
from router.moa.openai_format import EndpointKind, OpenAIFormat
from router.moa.run_context import RunContext
from router.moa.run_limits import RunLimits, RunSlot
from router.observability.run_store import RunStore

if TYPE_CHECKING:
    from router.observability.tracing.leg_tracer import LegTracer
    from router.observability.tracing.request_span import RequestSpan

# The API of each path that takes `run`; None for SGLang's own.
KINDS: dict[str, EndpointKind | None] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/generate": None,
}


@dataclass(frozen=True)
class _Turn:
    """A request whose agent has joined its run, and how it is answered.

    Attributes:
        request: The client's request.
        asked: What it says.
        kind: The API it came by; None for SGLang's own.
        model: The agent's model.
        agent: The agent in its run.
        slot: The run's slot among the concurrent ones.
        tracer: The agent's span; None without tracing.
        latest_event: The server's last event: each event of `/generate` has the whole answer so far.
    """

    request: AsgiRequest
    asked: AgentRequest
    kind: EndpointKind | None
    model: str
    agent: JoinedAgent
    slot: RunSlot
    tracer: "LegTracer | None"
    latest_event: deque[bytes] = field(default_factory=lambda: deque(maxlen=1))

    def yield_room(self) -> None:
        """Count for no limit while the agent waits for others, whose requests need the room."""
        if self.agent.waits:
            self.slot.wait(awaited=self.agent.awaited)
            self.request.admission.pause()

    async def take_room(self) -> None:
        """Count again, now that the prompt is complete."""
        self.slot.go_on()
        await self.request.admission.resume()

    def call(self) -> AgentCall:
        """The call of the agent's model."""
        return AgentCall(
            run_trace=self.agent.run_trace,
            trace=self.agent.trace,
            answer=self.agent.answer,
            draft=self.asked.draft,
            upstream=self.agent.upstream,
            order=self.asked.order,
            sampling=self.asked.sampling,
            splice=True,
            keep_output_ids=self.kind is None,
            answers_client=True,
            streaming=self.asked.stream,
            extra_fields=self.asked.extra_fields,
            on_event=self.latest_event.append,
            before_sending=self.take_room,
            tracer=self.tracer,
        )

    async def send(self, texts: AsyncGenerator[str]) -> None:
        """Send the answer to the client in the form of its API."""
        asked, trace = self.asked, self.agent.trace
        if self.kind is None:
            await send_generate_response(self.request, texts, self.latest_event, stream=asked.stream)
            return
        await send_openai_response(
            self.request,
            texts,
            trace,
            OpenAIFormat(self.kind, f"{asked.run}.{trace.agent}", self.model),
            stream=asked.stream,
            include_usage=asked.include_usage,
        )


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
        asked = read_agent_request(body, kind)
        if kind is None and not self._context.registry.served_by_pairs(model):
            raise BadRequest(f"{model} is served by plain servers, which have no /generate; use /v1/completions.")
        names = asked.draft.upstream_names
        agent = NewAgent(asked.run, asked.agent, model, names, request.client_key, request.namespace)
        with (
            self._limits.admit(request.client_key) as slot,
            self.runs.join(agent) as joined,
            nullcontext() if span is None else span.start_agent(joined.run_trace, joined.trace) as tracer,
        ):
            turn = _Turn(request, asked, kind, model, joined, slot, tracer)
            turn.yield_room()
            async with aclosing(run_agent(self._context, turn.call())) as texts:
                await turn.send(texts)

    def close(self) -> None:
        """Forget all runs."""
        self.runs.close()
