"""OpenAI's responses: `/v1/responses`, and those that a server has stored: `/v1/responses/{id}`, `.../cancel`."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from router.dispatch.dispatcher import Dispatcher
from router.endpoints.passed import PassedEndpoints
from router.endpoints.passed_paths import RESPONSES_PATH
from router.errors import BadRequest, NoWorker
from router.forwarding.forwarder import RoutedRequest
from router.forwarding.plain_attempts import PlainAttemptMaker
from router.forwarding.plain_fields import plain_fields
from router.forwarding.response_ids import new_response_id, server_of_response
from router.http.body import Body
from router.http.client_request import ClientRequest
from router.load_balancing import RoutingContext
from router.workers.worker import Worker

_QUERY = re.compile(r"[!-~]{0,1000}")
_REFUSED = {
    "request_id": "the router sets it, since it says which server has the response",
    "conversation": "no conversations are stored; send the earlier items in `input`, or `previous_response_id`",
}


class ResponsesEndpoints:
    """Passes them to plain servers. A response that is stored stays on the server that made it, which its id names.

    Args:
        dispatcher: Chooses servers.
        passed: Reads and forwards requests.
    """

    def __init__(self, dispatcher: Dispatcher, passed: PassedEndpoints) -> None:
        self._dispatcher = dispatcher
        self._passed = passed

    async def create(self, request: ClientRequest) -> None:
        """Generate a response; after `previous_response_id`, on the server that has that one."""
        routed = await self._passed.read(request, RESPONSES_PATH)
        fields = routed.body.fields
        for name, reason in _REFUSED.items():
            if fields.get(name) is not None:
                raise BadRequest(f"`{name}` is not taken here: {reason}.")
        self._refuse_ignored_format(routed)

        def added(routed: RoutedRequest, worker: Worker) -> dict[str, Any]:
            # SGLang and vLLM take the id of a response from the request. By it SGLang aborts the request, too.
            return {**plain_fields(routed, worker), "request_id": new_response_id(worker, request.namespace)}

        choice = None
        if (previous := fields.get("previous_response_id")) is not None:
            server = self._server_of(request, str(previous))
            if routed.model not in server.models and not server.serves_any:
                raise BadRequest(f"the response {str(previous)[:100]!r} is not of the model {routed.model!r}.")
            choice = _OneServer(server)
        attempts = PlainAttemptMaker(self._dispatcher, added, choice)
        await self._passed.forward(request, routed, attempts, RESPONSES_PATH)

    async def show(self, request: ClientRequest, response_id: str) -> None:
        """A stored response, as its server tells it, or a stream of one that is being made."""
        await request.body()
        query = request.query_string.decode("latin-1")
        if not _QUERY.fullmatch(query):
            raise BadRequest("the query must be up to 1,000 printable ASCII characters.")
        await self._ask(request, response_id, "?" + query if query else "", "GET")

    async def cancel(self, request: ClientRequest, response_id: str) -> None:
        """End a response that is made in the background."""
        await request.body()
        await self._ask(request, response_id, "/cancel", "POST")

    async def _ask(self, request: ClientRequest, response_id: str, rest: str, method: str) -> None:
        server = self._server_of(request, response_id)
        path = f"{RESPONSES_PATH.server_path}/{response_id}{rest}"
        routed = RoutedRequest(path, RESPONSES_PATH.name, str(server.model), Body({}), method, needs_engine=False)
        attempts = PlainAttemptMaker(self._dispatcher, lambda *_: {}, _OneServer(server))
        await self._passed.forward(request, routed, attempts, RESPONSES_PATH, follows_engine=method == "GET")

    def _server_of(self, request: ClientRequest, response_id: str) -> Worker:
        return server_of_response(response_id, request.namespace, self._dispatcher.registry.workers)

    def _refuse_ignored_format(self, routed: RoutedRequest) -> None:
        """Raise `BadRequest` for a format of the text where SGLang may serve it, which would ignore it."""
        text = routed.body.fields.get("text")
        form = text.get("format") if isinstance(text, dict) else None
        if not isinstance(form, dict) or form.get("type") in (None, "text"):
            return
        if any(each.capability == "sglang" for each in self._dispatcher.registry.serving(routed.model, "plain")):
            raise BadRequest(
                "`text.format` would be ignored by SGLang in /v1/responses; send `response_format` to "
                "/v1/chat/completions."
            )


@dataclass(frozen=True)
class _OneServer:
    """Chooses this server, whatever else there is."""

    server: Worker

    def choose(self, _: RoutedRequest, context: RoutingContext, avoid: Collection[Worker]) -> Worker:
        if not self.server.health.usable:
            raise NoWorker("the server that has the response is not healthy; try again later.", retry_after=1.0)
        return self.server
