"""Runs: `/runs`, and each run as JSON, as a page and as a Chrome trace."""

import orjson

from router.http.asgi import JSON_HEADERS, AsgiRequest
from router.observability.run_store import RunStore


class RunEndpoints:
    """The traces of recent runs; raises `NotFound` for a run that is not stored."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    async def list(self, request: AsgiRequest) -> None:
        """The runs that are stored."""
        await request.send_json({"runs": self._store.to_json()})

    async def show(self, request: AsgiRequest, run: str) -> None:
        """A run's trace."""
        await request.send_json(self._store.find(run).to_json())

    async def timeline(self, request: AsgiRequest, run: str) -> None:
        """A run as a self-contained HTML page."""
        # Imported late: the templates cost memory in every process, and most runs are never looked at.
        from router.timeline.page import CSP, page

        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", CSP.encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        await request.send_response(200, page(self._store.find(run).to_json()).encode(), headers)

    async def chrome_trace(self, request: AsgiRequest, run: str) -> None:
        """A run in Chrome's trace event format, for Perfetto."""
        from router.timeline import chrome_trace

        trace = self._store.find(run)
        disposition = (b"content-disposition", f'attachment; filename="{trace.id}.trace.json"'.encode())
        await request.send_response(200, orjson.dumps(chrome_trace(trace.to_json())), [*JSON_HEADERS, disposition])
