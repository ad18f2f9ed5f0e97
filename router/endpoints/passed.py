"""Requests that are passed to a server of the model as they are: embeddings, scores, token ids, messages."""

from collections.abc import Collection
from dataclasses import dataclass

from router.dispatch.dispatcher import Dispatcher
from router.endpoints.answering import answer_within
from router.endpoints.common_fields import check_common_fields, refuse_ignored
from router.endpoints.hints import take_hints
from router.endpoints.passed_paths import RESPONSES_PATH, PassedPath
from router.endpoints.requested_model import requested_model
from router.endpoints.reserved_fields import refuse_reserved
from router.endpoints.routes import Handler
from router.endpoints.trees import TreeEndpoint
from router.errors import BadRequest
from router.forwarding.forwarder import AttemptMaker, Forwarder, RoutedRequest
from router.forwarding.plain_attempts import PlainAttemptMaker
from router.http.body import read_body
from router.http.client_request import ClientRequest
from router.http.sse import format_error, format_named_error
from router.load_balancing import RoutingContext
from router.request_checks.null_patterns import check_null_patterns
from router.request_checks.refused_fields import refuse_harmful
from router.request_checks.sampling_bounds import check_sampling
from router.worker_selection.selector import WorkerSelector
from router.workers.worker import Role, Worker

HELP_TIMEOUT = 30.0  # seconds for what needs no engine
# What SGLang's own paths take only from a program: from JSON it would end the server.
_OF_PROGRAMS = {"/encode": "embed_overrides", "/classify": "embed_overrides"}


@dataclass(frozen=True)
class _IdlestServer:
    """Chooses the server of a role with the fewest requests, for what needs no engine."""

    selector: WorkerSelector
    role: Role

    def choose(self, routed: RoutedRequest, _: RoutingContext, avoid: Collection[Worker]) -> Worker:
        return self.selector.choose_idlest(routed.model, self.role, avoid)


class PassedEndpoints:
    """Passes requests to servers.

    Args:
        dispatcher: Chooses servers.
        trees: Their names are refused.
        forwarder: Forwards requests, with retries.
        timeout: Seconds for a whole response.
    """

    def __init__(self, dispatcher: Dispatcher, trees: TreeEndpoint, forwarder: Forwarder, timeout: float) -> None:
        self._dispatcher = dispatcher
        self._registry = dispatcher.registry
        self._trees = trees
        self._forwarder = forwarder
        self._timeout = timeout

    def handler(self, path: PassedPath) -> Handler:
        """The handler of a path of the table."""

        async def handle(request: ClientRequest) -> None:
            routed = await self.read(request, path)
            choice = None
            if not path.needs_engine:
                role: Role = "decode" if self._registry.served_by_pairs(routed.model) else "plain"
                choice = _IdlestServer(self._dispatcher.selector, role)
            await self.forward(request, routed, PlainAttemptMaker(self._dispatcher, choice=choice), path)

        return handle

    async def read(self, request: ClientRequest, path: PassedPath) -> RoutedRequest:
        """Read and check the body of a request; raises `BadRequest`, and as `ClientRequest.body`."""
        body = read_body(await request.body())
        fields = body.fields
        refuse_reserved(fields)
        refuse_harmful(fields)
        check_common_fields(fields)
        check_null_patterns(body)
        if fields.get("run") is not None:
            raise BadRequest(f"{request.path} takes no `run`: only requests that generate text belong to runs.")
        if (name := _OF_PROGRAMS.get(path.server_path)) is not None and fields.get(name) is not None:
            raise BadRequest(f"`{name}` is not taken here: no JSON can say it to SGLang; /v1/embeddings takes it.")
        model = fields.get("model")
        if self._trees.serves(model):
            raise BadRequest(
                f"{model!r} is a tree of agents, which {request.path} cannot be asked of; use /v1/chat/completions or "
                "/v1/completions, or name one of its models."
            )
        model = requested_model(self._registry, fields)
        by_pairs = self._registry.served_by_pairs(model) and model in self._registry.known_models()
        if by_pairs and path.refused_on_pairs is not None:
            raise BadRequest(f"{request.path} is not served for {model!r}: {path.refused_on_pairs}.")
        if path.needs_engine:
            check_sampling(fields, path.server_path)
            refuse_ignored(fields, lambda: self._registry.serving(model, "plain"))
        if path is RESPONSES_PATH:
            take_hints(request, fields, self._registry.serving(model, "plain"))
        return RoutedRequest(path.server_path, path.name, model, body, needs_engine=path.needs_engine)

    async def forward(
        self,
        request: ClientRequest,
        routed: RoutedRequest,
        attempts: AttemptMaker,
        path: PassedPath,
        *,
        follows_engine: bool = False,
    ) -> None:
        """Send a request, and the response to the client; raises `RouterError`.

        `follows_engine` gives one that needs no engine the time of one that does: it may stream what that makes.
        """
        is_long = routed.needs_engine or follows_engine
        seconds = self._timeout if is_long else min(self._timeout, HELP_TIMEOUT)
        work = self._forwarder.forward(request, routed, attempts)
        await answer_within(request, work, seconds, format_named_error if path.has_named_events else format_error)
