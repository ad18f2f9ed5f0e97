"""Inference: `/generate`, `/v1/chat/completions` and `/v1/completions`.

Each request goes to a tree, to a client's run of agents, to a pair, or to a plain server.
"""

from dataclasses import replace
from typing import Any, Protocol

from router.agent_runs.service import AgentRuns
from router.dispatch.dispatcher import Dispatcher
from router.endpoints.answering import ERROR_EVENT_TIMEOUT, answer_within
from router.endpoints.common_fields import check_common_fields, refuse_ignored
from router.endpoints.hints import take_hints
from router.endpoints.requested_model import requested_model
from router.endpoints.reserved_fields import refuse_reserved
from router.endpoints.trees import TreeEndpoint
from router.forwarding.forwarder import Forwarder, RoutedRequest
from router.forwarding.plain_attempts import PlainAttemptMaker
from router.http.body import Body, read_body
from router.http.client_request import ClientRequest
from router.moa.openai_format import EndpointKind
from router.request_checks.null_patterns import check_null_patterns
from router.request_checks.sampling_bounds import check_sampling
from router.samples.admission import admit_samples, places_of
from router.samples.pair_attempts import PairAttemptMaker


class RunOwners(Protocol):
    """The processes of one router: one of them answers all requests of a run."""

    def owns(self, run: str) -> bool:
        """Whether this process answers the requests of a run."""

    async def forward_run(self, request: ClientRequest, run: str, raw: bytes, seconds: float) -> None:
        """Forward a request to the process that owns its run, and its response to the client; raises `NoWorker`."""


class InferenceEndpoints:
    """Generation.

    Args:
        dispatcher: Chooses workers and sends to them.
        trees: Answers requests to trees.
        agent_runs: Answers requests with `run`.
        forwarder: Forwards requests to pairs and plain servers.
        timeout: Seconds for a whole response.
        peers: The router's other processes; None if there is one.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        trees: TreeEndpoint,
        agent_runs: AgentRuns,
        forwarder: Forwarder,
        timeout: float,
        peers: RunOwners | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._registry = dispatcher.registry
        self._trees = trees
        self._agent_runs = agent_runs
        self._forwarder = forwarder
        self._on_pairs = PairAttemptMaker(dispatcher)
        self._on_plain = PlainAttemptMaker(dispatcher)
        self._timeout = timeout
        self._peers = peers

    async def generate(self, request: ClientRequest) -> None:
        """SGLang's native endpoint; `model` chooses the model and is not passed on."""
        body = await _read_body(request)
        if await self._forwarded_to_owner(request, body):
            return
        model = requested_model(self._registry, body.fields)
        body.remove("model")
        await self._serve_within_timeout(request, RoutedRequest("/generate", "generate", model, body))

    async def chat_completions(self, request: ClientRequest) -> None:
        """OpenAI chat; a tree's name as `model` runs the tree."""
        await self._complete(request, "chat", "/v1/chat/completions", "chat")

    async def completions(self, request: ClientRequest) -> None:
        """OpenAI completions; a tree's name as `model` runs the tree, once for each prompt."""
        await self._complete(request, "completion", "/v1/completions", "completions")

    async def _complete(self, request: ClientRequest, kind: EndpointKind, path: str, endpoint: str) -> None:
        body = await _read_body(request)
        if await self._forwarded_to_owner(request, body):
            return
        model = body.fields.get("model")
        if self._trees.serves(model):
            request.model = model
            take_hints(request, body.fields)
            answer = self._trees.answer(request, body.all_fields(), kind, request.span)
            await answer_within(request, answer, self._timeout)
            return
        routed = RoutedRequest(path, endpoint, requested_model(self._registry, body.fields), body)
        await self._serve_within_timeout(request, routed)

    async def _forwarded_to_owner(self, request: ClientRequest, body: Body) -> bool:
        """Whether another process has answered: the agents of one run must meet in one process."""
        run = body.fields.get("run")
        if self._peers is None or request.internal or not isinstance(run, str) or self._peers.owns(run):
            return False
        request.admission.pause()  # the other process counts it
        self._note_model(request, body.fields.get("model"))
        # Longer than the other process's own timeout, whose error says more.
        await self._peers.forward_run(request, run, body.render({}), self._timeout + ERROR_EVENT_TIMEOUT)
        return True

    def _note_model(self, request: ClientRequest, name: Any) -> None:
        """Tell logs and metrics the model of a request that no forwarder sends on, unless no worker has it."""
        model = self._registry.meant_by(name) if isinstance(name, str) else None
        if model in self._registry.known_models():
            request.model = model

    async def _serve_within_timeout(self, request: ClientRequest, routed: RoutedRequest) -> None:
        await answer_within(request, self._serve(request, routed), self._timeout)

    async def _serve(self, request: ClientRequest, routed: RoutedRequest) -> None:
        if self._agent_runs.serves(routed.body.fields):
            refuse_ignored(routed.body.fields)
            self._note_model(request, routed.model)
            take_hints(request, routed.body.fields)
            await self._agent_runs.answer(request, routed.path, routed.model, routed.body.all_fields(), request.span)
        elif self._registry.served_by_pairs(routed.model):
            refuse_ignored(routed.body.fields, lambda: self._registry.serving(routed.model, "decode"))
            decode = self._registry.serving(routed.model, "decode")
            take_hints(request, routed.body.fields, decode, self._registry.serving(routed.model, "prefill"))
            await admit_samples(request, routed)
            if self._dispatcher.selector.places.enabled:
                routed = replace(routed, places=places_of(request, routed))
            await self._forwarder.forward(request, routed, self._on_pairs)
        else:
            await self._forward_to_plain(request, routed)

    async def _forward_to_plain(self, request: ClientRequest, routed: RoutedRequest) -> None:
        check_sampling(routed.body.fields, routed.path)
        refuse_ignored(routed.body.fields, lambda: self._registry.serving(routed.model, "plain"))
        take_hints(request, routed.body.fields, self._registry.serving(routed.model, "plain"))
        await self._forwarder.forward(request, routed, self._on_plain)


async def _read_body(request: ClientRequest) -> Body:
    body = read_body(await request.body())
    refuse_reserved(body.fields)
    check_common_fields(body.fields)
    check_null_patterns(body)
    return body
