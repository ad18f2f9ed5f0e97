"""The requests of one probe of a server: is it well, and which models does it serve."""

from http import HTTPStatus
from typing import Any

import orjson

from router.errors import ConnectFailed, UpstreamFailed
from router.http_client.origin import Origin

KEY_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class ServerProbe:
    """The requests of one probe of one server.

    A plain server may be any that speaks OpenAI's API: it need not have a health endpoint nor SGLang's `/server_info`.
    Where it has none, `/v1/models` says both that it is well and what it serves.

    Args:
        origin: The server.
        plain: Whether it is a plain server, and not half of a pair.
        was_sglang: Whether an earlier probe found SGLang there.
        has_key: Whether the router sends it an API key.

    Attributes:
        path: The path that was asked last.
    """

    def __init__(self, origin: Origin, *, plain: bool, was_sglang: bool, has_key: bool) -> None:
        self._origin = origin
        self._plain = plain
        self._was_sglang = was_sglang
        self._has_key = has_key
        self.path = ""

    async def check_health(self, path: str) -> str | None:
        """Ask the health endpoint; any status of success will do.

        A plain server's answer that only says that it has no such endpoint, or shows it to nobody, is no failure.

        Returns:
            A sentence about the API key where a server refuses it for this path, a plain one or one that the router
            has no key for; None otherwise.

        Raises:
            UpstreamFailed: The server is not well.
        """
        status, _ = await self._get(path)
        if 200 <= status < 300:
            return None
        refused = status in KEY_REFUSED
        if not (self._plain or (refused and not self._has_key)) or _is_failure(status):
            raise self._refusal(status)
        return str(self._refusal(status)) if refused else None

    async def first_model(self) -> str | None:
        """Ask SGLang for what its HTTP process knows by itself: `/server_info` waits for its scheduler.

        Returns:
            The name of its model; None if it does not tell.

        Raises:
            UpstreamFailed: The server cannot be reached, or is not well.
        """
        try:
            models = _listed_models(await self._get_json("/v1/models"))
        except UpstreamFailed as error:
            if _is_failure(error.upstream_status):
                raise
            return None
        return models[0]["id"] if models else None

    async def server_info(self) -> Any:
        """SGLang's `/server_info` as JSON.

        Of a plain server without it, what `/v1/models` says in the same form: `served_model_name` and `more_models`,
        the names of its first and its other models, and `context_length`, the first one's.

        Raises:
            UpstreamFailed: The server cannot be reached, or its answer is an error or not JSON.
        """
        try:
            info = await self._get_json("/server_info")
        except UpstreamFailed as error:
            # SGLang's own error says that it is not well, also while its list of models still comes.
            is_sick = self._was_sglang and _is_failure(error.upstream_status)
            if not self._plain or is_sick or isinstance(error, ConnectFailed):
                raise
        else:
            if not self._plain or (isinstance(info, dict) and isinstance(info.get("served_model_name"), str)):
                return info
        first, *others = _listed_models(await self._get_json("/v1/models")) or [{"id": None}]
        more = dict.fromkeys(model["id"] for model in others if model["id"] != first["id"])
        return {
            "served_model_name": first["id"],
            "more_models": tuple(more),
            "context_length": first.get("max_model_len"),
        }

    async def _get_json(self, path: str) -> Any:
        status, body = await self._get(path)
        if status != HTTPStatus.OK:
            raise self._refusal(status)
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            error = UpstreamFailed(f"{self._origin.url} answered {path} with something that is not JSON.")
            error.upstream_status = status
            raise error from None

    async def _get(self, path: str) -> tuple[int, bytes]:
        self.path = path
        async with await self._origin.request("GET", path) as response:
            return response.status, await response.read()

    def _refusal(self, status: int) -> UpstreamFailed:
        """The error of a status that is no success."""
        cause = ""
        if status in KEY_REFUSED:
            wrong = "it does not take the API key given with --api-key"
            cause = f": {wrong if self._has_key else 'it wants an API key; give it with --api-key'}"
        error = UpstreamFailed(f"{self._origin.url} answered {self.path} with {status}{cause}.")
        error.upstream_status = status
        return error


def _is_failure(status: int | None) -> bool:
    """Whether a status, or None for no answer, says that the server is not well, and not only that it lacks a path."""
    return status is None or (status >= 500 and status != HTTPStatus.NOT_IMPLEMENTED)


def _listed_models(answer: Any) -> list[dict[str, Any]]:
    """The models of OpenAI's `/v1/models` that have a name."""
    models = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(models, list):
        return []
    return [model for model in models if isinstance(model, dict) and isinstance(model.get("id"), str) and model["id"]]
