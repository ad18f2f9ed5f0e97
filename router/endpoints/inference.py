"""Endpoints that generate text or rank documents: each request goes to a tree, a client's run, a pair or a server."""

from typing import Any, Protocol

from router.agent_runs.service import AgentRuns
from router.dispatch.pair_forwarding import PairForwarder, RoutedRequest
from router.dispatch.plain_forwarding import forward_to_plain
from router.endpoints.access import refuse_reserved
from router.endpoints.trees import TreeEndpoint
from router.errors import BadRequest, NoWorker, RouterError, UpstreamTimeout, clear_tracebacks
from router.http.body import Body, read_body
from router.http.client_request import ClientRequest
from router.http.disconnect import while_connected
from router.http.sse import format_error
from router.moa.openai_format import EndpointKind
from router.workers.registry import Registry

LAST_WORDS = 5.0  # seconds that a client gets to take the event of an error


class RunOwners(Protocol):
    """The processes of one router: all requests of a run are answered by one of them."""

    def owns(self, run: str) -> bool:
        """Whether a run is this process's."""

    async def forward_run(self, request: ClientRequest, run: str, raw: bytes, seconds: float) -> None:
        """Answer a request with what the process that owns its run answers; raises `NoWorker`."""


class InferenceEndpoints:
    """What a pair answers: generation, and reranking."""

    def __init__(
        self,
        registry: Registry,
        moa: TreeEndpoint,
        clients: AgentRuns,
        pairs: PairForwarder,
        timeout: float,
        peers: RunOwners | None = None,
    ) -> None:
        self._registry = registry
        self._moa = moa
        self._clients = clients
        self._pairs = pairs
        self._timeout = timeout
        self._peers = peers

    async def generate(self, request: ClientRequest) -> None:
        """SGLang's native endpoint; `model` chooses among several models and is not passed on."""
        body = await _read(request)
        if await self._passed_on(request, body):
            return
        model = self.model(body.fields)
        body.remove("model")
        await self._in_time(request, RoutedRequest("/generate", "generate", model, body))

    async def chat_completions(self, request: ClientRequest) -> None:
        """OpenAI chat; a tree's name as `model` runs the tree."""
        await self._complete(request, "chat", "/v1/chat/completions", "chat")

    async def completions(self, request: ClientRequest) -> None:
        """OpenAI completions; a tree's name as `model` runs the tree, once for each prompt."""
        await self._complete(request, "completion", "/v1/completions", "completions")

    async def _complete(self, request: ClientRequest, kind: EndpointKind, path: str, endpoint: str) -> None:
        body = await _read(request)
        if await self._passed_on(request, body):
            return
        named = body.fields.get("model")
        if self._moa.serves(named):
            request.model = named
            await while_connected(request, self._moa.answer(request, body.all_fields(), kind, request.span))
            return
        await self._in_time(request, RoutedRequest(path, endpoint, self.model(body.fields), body))

    async def _passed_on(self, request: ClientRequest, body: Body) -> bool:
        """Whether another process has answered: agents of one run read each other's answers in one place."""
        run = body.fields.get("run")
        if self._peers is None or request.internal or not isinstance(run, str) or self._peers.owns(run):
            return False
        # The other one's limit is to come first: it knows what to say.
        await self._peers.forward_run(request, run, body.render({}), self._timeout + LAST_WORDS)
        return True

    async def rerank(self, request: ClientRequest) -> None:
        """Documents by relevance, where the pair's model can do that."""
        body = await _read(request)
        await self._in_time(request, RoutedRequest("/v1/rerank", "rerank", self.model(body.fields), body))

    def model(self, body: dict[str, Any]) -> str:
        """The model that a body asks for, or the only one; raises `BadRequest` or `NoWorker`."""
        named = body.get("model")
        if named is not None and not isinstance(named, str):
            raise BadRequest("`model` must be a string.")
        # "default" is SGLang's own name for whatever the server has.
        model = self._registry.default_model() if named in (None, "default") else named
        if model is None:
            known = self._registry.models()
            if not known:
                raise NoWorker("no model has both a healthy prefill and a healthy decode server yet.")
            raise BadRequest(f"several models are served here; name one in `model`: {', '.join(known)}.")
        return model

    async def _in_time(self, request: ClientRequest, job: RoutedRequest) -> None:
        """Answer the request; an error after the answer began becomes an event of its stream, as OpenAI's API does it.

        A client that does not take that event is left.
        """
        try:
            await while_connected(request, self._serve(request, job), self._timeout)
            return
        except TimeoutError:
            error: RouterError = UpstreamTimeout(f"the request was not answered within {self._timeout:g} s.")
        except RouterError as failed:
            error = failed
        if not request.response_started or request.response_complete:
            raise error
        try:
            await while_connected(request, _last_words(request, error), LAST_WORDS)
        except TimeoutError:
            raise error from None
        clear_tracebacks(error)

    async def _serve(self, request: ClientRequest, job: RoutedRequest) -> None:
        if self._clients.serves(job.body.fields):
            await self._clients.answer(request, job.path, job.model, job.body.all_fields(), request.span)
        elif self._registry.served_by_pairs(job.model):
            await self._pairs.forward(request, job)
        else:
            await forward_to_plain(request, self._registry.usable_plain(job.model), job.path, job.body.render({}))


async def _read(request: ClientRequest) -> Body:
    body = read_body(await request.body())
    refuse_reserved(body.fields)
    return body


async def _last_words(request: ClientRequest, error: RouterError) -> None:
    await request.send_chunk(b"\n" + format_error(error))
    await request.send_chunk(b"", more=False)
