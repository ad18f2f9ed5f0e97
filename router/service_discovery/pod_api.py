"""Lists and watches pods through the Kubernetes API.

`kubernetes_asyncio` connects and authenticates. Responses are parsed here as plain JSON: the library's own watch
ignores the HTTP status and spends time on converting each pod to objects.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import orjson

from router.service_discovery import credentials
from router.service_discovery.labels import common_selector
from router.service_discovery.pods import Pod
from router.service_discovery.settings import DiscoverySettings

Event = tuple[str, Pod]  # event type and pod; the pod of a BOOKMARK event has only a resource version


class ApiUnavailable(Exception):
    """The API cannot be reached, closed the connection or timed out; the known resource version stays valid."""


class ApiRefused(Exception):
    """The API responded with an error; the pods must be listed again.

    Attributes:
        status: The HTTP status; 410 if the resource version is too old.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@asynccontextmanager
async def connected(settings: DiscoverySettings) -> AsyncIterator["PodApi"]:
    """Connect with the current credentials; raises `ApiUnavailable` if there are none."""
    from kubernetes_asyncio.client import ApiClient, CoreV1Api

    try:
        client = ApiClient(await credentials.load())
    except Exception as error:  # a plugin of the kubeconfig may fail in any way
        raise ApiUnavailable(f"there are no credentials for the Kubernetes API ({_one_line(error)})") from error
    async with client:
        yield PodApi(CoreV1Api(client), client.configuration.host, settings)


class PodApi:
    """Lists and watches the pods that may be workers."""

    def __init__(self, core: Any, host: str, settings: DiscoverySettings) -> None:
        self._core = core
        self._name = f"the Kubernetes API at {host}"
        self._settings = settings
        self._labels = common_selector(settings.selectors.values())

    async def list(self) -> tuple[list[Pod], str]:
        """List the pods. Returns them and the resource version from which to watch.

        Raises:
            ApiUnavailable: The API cannot be reached.
            ApiRefused: The API responded with an error.
        """
        async with self._request("list", read_timeout_secs=self._settings.timeout_secs) as response:
            pod_list = self._parse(await response.read())
        return pod_list.get("items") or [], pod_list["metadata"]["resourceVersion"]

    @asynccontextmanager
    async def watch(self, version: str) -> AsyncIterator[AsyncIterator[Event]]:
        """Events after a resource version, until the server ends the watch; raises as `list`."""
        seconds = self._settings.watch_secs
        parameters = {
            "watch": True,
            "resource_version": version,
            "allow_watch_bookmarks": True,
            "timeout_seconds": max(1, round(seconds)),
        }
        async with self._request(
            "watch", read_timeout_secs=seconds + self._settings.timeout_secs, **parameters
        ) as response:
            yield self._events(response)

    async def _events(self, response: Any) -> AsyncIterator[Event]:
        async for line in response.content:
            event = self._parse(line)
            event_type, pod = str(event.get("type")), event.get("object") or {}
            if event_type == "ERROR":
                raise self._refused("watch", pod.get("code") or 0, pod)
            yield event_type, pod

    @asynccontextmanager
    async def _request(self, verb: str, *, read_timeout_secs: float, **parameters: Any) -> AsyncIterator[Any]:
        """The response to a list or watch request; `read_timeout_secs` is the longest pause between two reads."""
        from aiohttp import ClientError, ClientPayloadError

        namespace = {} if self._settings.namespace is None else {"namespace": self._settings.namespace}
        method = self._core.list_namespaced_pod if namespace else self._core.list_pod_for_all_namespaces
        if self._labels:
            parameters["label_selector"] = self._labels
        timeouts = (self._settings.timeout_secs, read_timeout_secs)
        try:
            response = await method(**namespace, **parameters, _preload_content=False, _request_timeout=timeouts)
            try:
                if response.status != HTTPStatus.OK:
                    raise self._refused(verb, response.status, self._parse(await response.read(), strict=False))
                yield response
            finally:
                response.close()
        except TimeoutError:
            raise ApiUnavailable(f"{self._name} said nothing in time") from None
        except ClientPayloadError:
            raise ApiUnavailable(f"{self._name} broke off") from None
        except (ClientError, OSError) as error:
            raise ApiUnavailable(f"{self._name} cannot be reached ({_one_line(error)})") from None

    def _refused(self, verb: str, status: int, error: dict[str, Any]) -> ApiRefused:
        message = error.get("message") or "it gives no reason"
        if status == HTTPStatus.FORBIDDEN:
            message += "; allow its service account to get, list and watch pods"
        return ApiRefused(f"{self._name} refuses to {verb} pods with {status}: {message}", status)

    def _parse(self, raw: bytes, *, strict: bool = True) -> dict[str, Any]:
        try:
            parsed = orjson.loads(raw)
        except orjson.JSONDecodeError:
            parsed = None
        if isinstance(parsed, dict):
            return parsed
        if strict:
            raise ApiUnavailable(f"{self._name} broke off or sent something that is not JSON")
        return {}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
