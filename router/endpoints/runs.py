"""Runs: `/runs`, and each run as JSON, as a page and as a Chrome trace."""

from typing import Any

import orjson

from router.http.asgi import JSON_HEADERS
from router.http.client_request import ClientRequest
from router.observability.run_store import RunStore


class RunEndpoints:
    """The traces of recent runs; raises `NotFound` for a run that is not stored.

    A client sees the runs of its own namespace, one with the right `admin` all: of those that have one name the newest,
    unless the query names the `owner`.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store

    async def list(self, request: ClientRequest) -> None:
        """The runs that are stored."""
        await request.send_json({"runs": self._store.summaries(_reader(request), request.query("owner"))})

    async def show(self, request: ClientRequest, run: str) -> None:
        """A run's trace."""
        await request.send_json(self._trace(request, run))

    async def timeline(self, request: ClientRequest, run: str) -> None:
        """A run as a self-contained HTML page."""
        # Imported late: the templates cost memory in every process, and most runs are never looked at.
        from router.timeline.page import CSP, page

        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", CSP.encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        await request.send_response(200, page(self._trace(request, run)).encode(), headers)

    async def chrome_trace(self, request: ClientRequest, run: str) -> None:
        """A run in Chrome's trace event format, for Perfetto."""
        from router.timeline import chrome_trace

        trace = self._trace(request, run)
        disposition = (b"content-disposition", f'attachment; filename="{trace["run"]}.trace.json"'.encode())
        await request.send_response(200, orjson.dumps(chrome_trace(trace)), [*JSON_HEADERS, disposition])

    def _trace(self, request: ClientRequest, run: str) -> dict[str, Any]:
        reader = _reader(request)
        trace = self._store.find(run, reader, request.query("owner"))
        return trace.to_json(with_owner=reader is None, with_text=not self._store.redact_text)


def _reader(request: ClientRequest) -> str | None:
    """Whose runs a client may see; None for all."""
    return None if "admin" in request.rights else request.namespace
