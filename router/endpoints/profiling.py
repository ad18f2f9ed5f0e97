"""Profiling of the workers: `/start_profile` and `/stop_profile`, passed on to all of them or to one."""

from typing import Any

import orjson

from router.errors import BadRequest, NotFound, TooLarge, UpstreamFailed
from router.http.body import parse_object
from router.http.client_request import ClientRequest
from router.http.disconnect import while_connected
from router.http_client.origin import Origin
from router.workers.all_workers import ask_all
from router.workers.queries import fetch_response
from router.workers.registry import Registry
from router.workers.worker import Worker

PROFILE_TIMEOUT = 300.0  # seconds; a server may write its trace before it answers
MAX_BODY = 1 << 16  # bytes
PROFILE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"url": {"type": ["string", "null"]}},  # the other fields are the servers'
}


class ProfilingEndpoints:
    """Passes requests for profiles on.

    Args:
        registry: The workers.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def start(self, request: ClientRequest) -> None:
        """Start a profile on all workers, or on the one at the body's `url`; its other fields go to the servers."""
        await self._pass_on(request, "/start_profile", "started profiling")

    async def stop(self, request: ClientRequest) -> None:
        """End the profile on all workers, or on the one at the body's `url`."""
        await self._pass_on(request, "/stop_profile", "stopped profiling")

    async def _pass_on(self, request: ClientRequest, path: str, done: str) -> None:
        body = await _read(request)
        url = body.pop("url", None)
        if not isinstance(url, str | None):
            raise BadRequest("`url` must be the address of a worker.")
        address = None if url is None else Origin(url).url
        workers = [each for each in self._registry.workers if address in (None, each.url)]
        if not workers:
            raise NotFound("there are no workers." if url is None else f"there is no worker at {address}.")
        await while_connected(request, self._ask(request, path, orjson.dumps(body) if body else b"", workers, done))

    @staticmethod
    async def _ask(request: ClientRequest, path: str, raw: bytes, workers: list[Worker], done: str) -> None:
        async def ask(worker: Worker) -> None:
            status, _, _ = await fetch_response(worker, "POST", path, raw, timeout=PROFILE_TIMEOUT)
            if status != 200:
                raise UpstreamFailed(f"{worker.url} answered {path} with {status}.")

        outcomes = await ask_all(workers, ask)
        failed = [each for each in outcomes if each.problem is not None]
        count = len(outcomes) - len(failed)
        if not failed:
            await request.send_json(_result("success", f"all {count} workers {done}", count, count))
            return
        result = _result("partial_success", f"{count} workers {done}, {len(failed)} did not", count, len(outcomes))
        result["successful"] = [each.worker.url for each in outcomes if each.problem is None]
        result["failed"] = [{"worker": each.worker.url, "error": each.problem} for each in failed]
        await request.send_json(result, 206)


def _result(status: str, message: str, profiled: int, total: int) -> dict[str, Any]:
    return {"status": status, "message": message, "workers_profiled": profiled, "total_workers": total}


async def _read(request: ClientRequest) -> dict[str, Any]:
    """The body, which may be left out."""
    too_large = TooLarge(f"the body is over {MAX_BODY} bytes; a profile needs less.")
    if request.announced_length > MAX_BODY:
        raise too_large
    raw = await request.body()
    if len(raw) > MAX_BODY:
        raise too_large
    return parse_object(raw) if raw else {}
