"""Reasoning and tool calls in a text: `/parse/reasoning` and `/parse/function_call`, by an SGLang server's parsers."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from router.dispatch.client_headers import ClientHeaders, client_headers
from router.dispatch.worker_errors import error_message
from router.endpoints.trees import TreeEndpoint
from router.errors import BadRequest, NotOffered, NoWorker, RouterError, Unauthorized, UpstreamFailed
from router.http.client_request import ClientRequest
from router.http.disconnect import while_connected
from router.workers.queries import fetch_response
from router.workers.registry import Registry
from router.workers.server_probe import KEY_REFUSED
from router.workers.worker import Worker

MAX_SERVERS = 3  # that are asked, one after the other


class ParsingEndpoints:
    """Asks any SGLang server, or one of the `model` that the body names: parsers need no engine."""

    def __init__(self, registry: Registry, trees: TreeEndpoint) -> None:
        self._registry = registry
        self._trees = trees

    async def reasoning(self, request: ClientRequest) -> None:
        """Separate a text into what was thought and what was said."""
        body = await request.json()
        asked = _checked(body, "reasoning_parser")

        def answer(told: Mapping[str, Any]) -> dict[str, Any]:
            return {"normal_text": told.get("text", ""), "reasoning_text": told.get("reasoning_text", "")}

        await self._answer(request, body, "/separate_reasoning", asked, asked["reasoning_parser"], answer)

    async def function_call(self, request: ClientRequest) -> None:
        """Find the tool calls in a text."""
        body = await request.json()
        asked = _checked(body, "tool_call_parser", "tools")
        tools = body.get("tools")
        if tools is not None and not isinstance(tools, list):
            raise BadRequest("`tools` must be a list.")

        def answer(told: Mapping[str, Any]) -> dict[str, Any]:
            calls = [
                {"function": {"name": call.get("name"), "arguments": call.get("parameters")}}
                for call in told.get("calls") or ()
            ]
            return {"remaining_text": told.get("normal_text", ""), "tool_calls": calls}

        asked_of_server = {**asked, "tools": tools or []}
        await self._answer(request, body, "/parse_function_call", asked_of_server, asked["tool_call_parser"], answer)

    async def _answer(
        self,
        request: ClientRequest,
        body: Mapping[str, Any],
        path: str,
        asked: Mapping[str, Any],
        parser: str,
        answer: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> None:
        """Send the client what `answer` makes of a server's response; raises as `_ask`."""

        async def work() -> None:
            told = await self._ask(client_headers(request), body, path, asked, parser)
            await request.send_json({**answer(told), "success": True})

        await while_connected(request, work())

    async def _ask(
        self, headers: ClientHeaders, body: Mapping[str, Any], path: str, asked: Mapping[str, Any], parser: str
    ) -> Mapping[str, Any]:
        """A server's answer.

        Raises:
            BadRequest: The server cannot do it: with a parser that it does not know, SGLang answers 500.
            Unauthorized: A server wants a client's key, and another than the request's.
            RouterError: No server answers, or each answers with a failure.
        """
        raw = orjson.dumps(asked)
        failure: RouterError | None = None
        for server in self._servers(body.get("model"))[:MAX_SERVERS]:
            try:
                status, content, _ = await fetch_response(server, "POST", path, raw, headers.for_worker(server))
            except RouterError as error:
                failure = error
                continue
            if status == 200:
                return _object(server, path, content)
            if status > 500 or status in KEY_REFUSED:
                said = f"{server.url} answered {path} with {status}: {error_message(content)}"
                failure = (
                    Unauthorized(said) if server.health.wants_key and status in KEY_REFUSED else UpstreamFailed(said)
                )
                continue
            said = error_message(content) if status < 500 else f"the server answers {status}"
            raise BadRequest(f"the text cannot be parsed with {parser[:100]!r}: {said}; is that a parser of SGLang's?")
        raise failure or NoWorker("no SGLang server is healthy; try again later.", retry_after=1.0)

    def _servers(self, model: Any) -> list[Worker]:
        """Usable SGLang servers, of a model or of all, the idlest first."""
        if model is not None and not isinstance(model, str):
            raise BadRequest("`model` must be a string.")
        if self._trees.serves(model):
            raise BadRequest(f"{model!r} is a tree of agents, which has no parser; name one of its models.")
        if model not in (None, "default") and model not in self._registry.known_models():
            self._registry.usable(model, "plain")  # raises what says that it is not served
        any_model = model in (None, "default")
        of_model = [each for each in self._registry.workers if any_model or model in each.models or each.serves_any]
        ours = [
            each
            for each in of_model
            if each.role != "prefill" and (each.capability != "openai" or each.health.wants_key)
        ]
        if of_model and not ours:
            raise NotOffered("only SGLang's servers parse texts, and none of these is one.")
        return sorted((worker for worker in ours if worker.health.usable), key=lambda worker: worker.load.in_flight)


def _checked(body: Mapping[str, Any], parser: str, *more: str) -> dict[str, str]:
    """The text and the parser's name; raises `BadRequest` where they are none, and for fields that are not known."""
    for name in ("text", parser):
        if not isinstance(body.get(name), str):
            raise BadRequest(f"`{name}` must be a string.")
    known = {"model", "text", parser, *more}
    if unknown := sorted(body.keys() - known):
        raise BadRequest(f"`{unknown[0][:100]}` is not known here; known are {', '.join(sorted(known))}.")
    return {"text": body["text"], parser: body[parser]}


def _object(server: Worker, path: str, content: bytes) -> Mapping[str, Any]:
    try:
        told = orjson.loads(content)
    except orjson.JSONDecodeError:
        told = None
    if not isinstance(told, dict):
        raise UpstreamFailed(f"{server.url} answered {path} with something that is no JSON object.")
    return told
