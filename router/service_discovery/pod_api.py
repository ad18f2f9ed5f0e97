"""The two things that are asked of the Kubernetes API: which pods there are, and what happens to them.

kubernetes_asyncio connects and authenticates. Answers are read here, as plain JSON: its own watch does not look
at their status, and takes more time to make objects of pods than the little that is wanted of them is worth.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import orjson

from router.service_discovery import credentials
from router.service_discovery.labels import selector
from router.service_discovery.pods import Pod
from router.service_discovery.settings import DiscoverySettings

Event = tuple[str, Pod]  # the type and the pod; of a bookmark only the resource version


class ApiUnavailable(Exception):
    """The API cannot be reached, broke off or fell silent; what was known of its history is still good."""


class ApiRefused(Exception):
    """The API answered with an error; the pods must be listed anew.

    Attributes:
        status: Its HTTP status; 410 when the resource version is too old.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@asynccontextmanager
async def connected(settings: DiscoverySettings) -> AsyncIterator["PodApi"]:
    """The API, with credentials as they are now; raises `ApiUnavailable` when there are none."""
    from kubernetes_asyncio.client import ApiClient, CoreV1Api

    try:
        client = ApiClient(await credentials.load())
    except Exception as error:  # a plugin of the kubeconfig may fail in any way
        raise ApiUnavailable(f"there are no credentials for the Kubernetes API ({_words(error)})") from error
    async with client:
        yield PodApi(CoreV1Api(client), client.configuration.host, settings)


class PodApi:
    """Lists and watches the pods that may be workers."""

    def __init__(self, core: Any, host: str, settings: DiscoverySettings) -> None:
        self._core = core
        self._name = f"the Kubernetes API at {host}"
        self._settings = settings
        self._labels = selector(settings.selectors.values())

    async def list(self) -> tuple[list[Pod], str]:
        """All pods, and the version from which to watch on.

        Raises:
            ApiAway: See there.
            ApiRefused: See there.
        """
        async with self._ask("list", read_secs=self._settings.late_secs) as response:
            told = self._parse(await response.read())
        return told.get("items") or [], told["metadata"]["resourceVersion"]

    @asynccontextmanager
    async def watch(self, version: str) -> AsyncIterator[AsyncIterator[Event]]:
        """What happens to pods after a version, until the server ends the watch; raises as `list`."""
        seconds = self._settings.watch_secs
        asked = {
            "watch": True,
            "resource_version": version,
            "allow_watch_bookmarks": True,
            "timeout_seconds": max(1, round(seconds)),
        }
        async with self._ask("watch", read_secs=seconds + self._settings.late_secs, **asked) as response:
            yield self._events(response)

    async def _events(self, response: Any) -> AsyncIterator[Event]:
        async for line in response.content:
            event = self._parse(line)
            kind, told = str(event.get("type")), event.get("object") or {}
            if kind == "ERROR":
                raise self._refusal("watch", told.get("code") or 0, told)
            yield kind, told

    @asynccontextmanager
    async def _ask(self, verb: str, *, read_secs: float, **more: Any) -> AsyncIterator[Any]:
        """The answer's head; `read_secs` is how long nothing may come."""
        from aiohttp import ClientError, ClientPayloadError

        where = {} if self._settings.namespace is None else {"namespace": self._settings.namespace}
        method = self._core.list_namespaced_pod if where else self._core.list_pod_for_all_namespaces
        if self._labels:
            more["label_selector"] = self._labels
        timeouts = (self._settings.late_secs, read_secs)
        try:
            response = await method(**where, **more, _preload_content=False, _request_timeout=timeouts)
            try:
                if response.status != HTTPStatus.OK:
                    raise self._refusal(verb, response.status, self._parse(await response.read(), strict=False))
                yield response
            finally:
                response.close()
        except TimeoutError:
            raise ApiUnavailable(f"{self._name} said nothing in time") from None
        except ClientPayloadError:
            raise ApiUnavailable(f"{self._name} broke off") from None
        except (ClientError, OSError) as error:
            raise ApiUnavailable(f"{self._name} cannot be reached ({_words(error)})") from None

    def _refusal(self, verb: str, status: int, told: dict[str, Any]) -> ApiRefused:
        message = told.get("message") or "it gives no reason"
        if status == HTTPStatus.FORBIDDEN:
            message += "; allow its service account to get, list and watch pods"
        return ApiRefused(f"{self._name} refuses to {verb} pods with {status}: {message}", status)

    def _parse(self, raw: bytes, *, strict: bool = True) -> dict[str, Any]:
        try:
            told = orjson.loads(raw)
        except orjson.JSONDecodeError:
            told = None
        if isinstance(told, dict):
            return told
        if strict:
            raise ApiUnavailable(f"{self._name} broke off or sent something that is not JSON")
        return {}


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
