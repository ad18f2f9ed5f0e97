"""Runs to look at: as JSON, as a page, and as a Chrome trace."""

import orjson

from router.http.asgi import JSON_HEADERS, Request
from router.observability.run_store import RunStore


class RunPages:
    """`/runs` and what is under it; each raises `NotFound` for a run that is not kept."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    async def listed(self, request: Request) -> None:
        """The runs that are kept."""
        await request.answer_json({"runs": self._store.to_json()})

    async def show(self, request: Request, run: str) -> None:
        """A run's trace."""
        await request.answer_json(self._store.find(run).to_json())

    async def timeline(self, request: Request, run: str) -> None:
        """A run as a page that needs nothing else."""
        # Only who looks at a run pays for the templates.
        from router.timeline.page import CSP, page

        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", CSP.encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        await request.answer(200, page(self._store.find(run).to_json()).encode(), headers)

    async def chrome_trace(self, request: Request, run: str) -> None:
        """A run for Perfetto."""
        from router.timeline import chrome_trace

        trace = self._store.find(run)
        saved = (b"content-disposition", f'attachment; filename="{trace.id}.trace.json"'.encode())
        await request.answer(200, orjson.dumps(chrome_trace(trace.to_json())), [*JSON_HEADERS, saved])
